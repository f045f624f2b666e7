"""Builds the parts of the page from the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import numpy as np
from markupsafe import Markup

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare.curves import roc_curve
from midistill_tasks.compare.epsilon import Epsilon, arm_epsilons
from midistill_tasks.compare.pairs import compare_ensembles
from midistill_tasks.compare.pareto import points, shared_perplexity
from midistill_tasks.compare.vulnerability import Exposed, most_exposed
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.metrics.scored import FloatArray
from midistill_tasks.report import figures, tables
from midistill_tasks.report.findings import Findings, dots, figures_note, figures_table, strongest_table
from midistill_tasks.report.masking import mask
from midistill_tasks.report.page import Section
from midistill_tasks.report.svg import legend
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.table import Cell, Table
from midistill_tasks.results.utility import with_error

TEXTS = 20
"""Most exposed texts shown."""
MASKED_LENGTH = 300
"""Characters shown of one."""

PAIRED_NOTE = (
    "DeLong's paired test over the same texts, two-sided; Holm's p allows for the number of attacks on a student."
)
AGREEMENT_NOTE = (
    "Jaccard: members found in both models / found in one or both. Kappa: the same beyond chance (0 = chance, 1 = the "
    "same members)."
)
TRADE_CAPTION = (
    "Bars: 95 % over texts (all models saw the same ones, so differences between models are firmer than the bars). "
    "Line: the Pareto front. A weaker model leaks less: compare models of one utility."
)
TRADE_NOTE = (
    "Leak: of the strongest attack, ± standard error. A model on the front has no rival that is at least as good in "
    "both and better in one, as measured; the errors say how firm that is. No single score is given: it would hide one "
    "behind the other."
)


def key(entries: Sequence[tuple[int, Entry]], extra: Sequence[tuple[str, str]] = ()) -> Markup:
    """The legend of models; those beyond the colours share the last one."""
    named = [(figures.colour(n), entry.name) for n, entry in entries if n < figures.COLOURS]
    others = len(entries) - len(named)
    return legend([*named, *([(figures.colour(figures.COLOURS), f"{others} others")] if others else []), *extra])


def overview(found: Findings) -> Section:
    """AUROC of every model under every attack, and all figures as a table."""
    chart = figures.auroc_figure(dots(found), found.blind)
    blind = [("blindkey", "blind baseline: words alone, no model")] if not math.isnan(found.blind.value) else []
    caption = (
        "Dot: AUROC; bar: 95 % interval, over texts and, for an arm of several seeds, over seeds (small marks: its "
        "single students). Lavender: the blind baseline with its interval; what lies inside may be no more than "
        "a difference between the two sets of texts."
    )
    folded = [(figures_table(found), figures_note(found))]
    if found.comparisons:
        folded.append((_of_split(tables.attacks(found.comparisons), found), PAIRED_NOTE))
    return Section(
        heading=f"How well each attack works: {found.split}",
        text=(f"The labels are valid for {found.first.metadata['valid_for']}.",),
        charts=((caption, chart),),
        legend=key(found.entries, blind),
        tables=((strongest_table(found), figures_note(found)),),
        folded=tuple(folded),
    )


def _of_split(table: Table, found: Findings) -> Table:
    """The table under a name of its own, for a page of several splits."""
    return replace(table, name=f"{table.name}-{found.split}")


def curves(found: Findings) -> Section:
    """ROC curves and score distributions of the attack that is strongest on the first model."""
    attack, shown = found.strongest, [pair for pair in found.entries if pair[0] < figures.COLOURS]
    present = [(n, entry, tasks) for n, entry in shown if (tasks := entry.results(found.split, attack))]
    drawn = [(n, roc_curve(entry.name, tasks)) for n, entry, tasks in present]
    left_out = len(found.entries) - len(shown)
    caption = (
        f"ROC of {attack} ({ATTACKS[attack].title if attack in ATTACKS else attack}), the strongest attack on "
        f"{found.entries[0][1].name}. Bands: 95 % bootstrap over texts, point by point; several seeds: their mean. "
        "Dashed: guessing." + (f" {left_out} more models are in the tables only." if left_out else "")
    )
    limits = _limits([task.scores for _, _, tasks in present for task in tasks])
    histograms = []
    for _, entry, tasks in present:
        first = tasks[0]
        sides = [first.scores[side & ~np.isnan(first.scores)] for side in (first.labels, ~first.labels)]
        name = f"{entry.name}, its first seed" if len(tasks) > 1 else entry.name
        histograms.append(figures.distribution_figure(sides[0], sides[1], name, limits))
    return Section(
        heading=f"The strongest attack more closely: {attack} on {found.split}",
        charts=((caption, figures.roc_figure(drawn, attack)),),
        legend=key(shown, [("members-key", "members"), ("nonmembers-key", "non-members")]),
        small=tuple(histograms),
        small_note=(
            "Scores of each model, as shares of the members and of the non-members. The more the two coincide, the "
            "less the model gives away. Texts beyond the axis are in the outermost bars."
        ),
    )


def _limits(scores: Sequence[FloatArray]) -> tuple[float, float]:
    """From the lowest 0.5 % quantile of the models to the highest 99.5 %, so that outliers do not squeeze the rest."""
    finite = [values[np.isfinite(values)] for values in scores]
    ends = [np.quantile(values, [0.005, 0.995]) for values in finite if len(values)] or [np.zeros(2)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)


MATRICES = (
    ("called member", "predicted", "all"),
    ("right, members", "right", "members"),
    ("right, others", "right", "nonmembers"),
)
"""The paper's matrices: title, what is counted, over which texts."""


def matrices(found: Findings) -> Section:
    """The paper's teacher × student matrices: the strongest attack as charts, everything as tables."""
    charts = []
    for one in found.comparisons[: figures.COLOURS]:
        attack = next((attack for attack in one.attacks if attack.attack == found.strongest), None)
        if attack is None:  # it did not run on these students; the tables hold those that did
            continue
        cells = [
            (title, np.mean([getattr(getattr(student, kind), side) for student in attack.students], axis=0))
            for title, kind, side in MATRICES
        ]
        charts.append(figures.matrix_figure(one.arm, cells))
    note = (
        f"The attack {found.strongest}: share of the texts (of all, of the members, of the non-members), mean over "
        "the students of an arm. Right, members, teacher yes and student no: members that are found in the teacher and "
        "no longer in the student. Thresholds are cross-fitted for each model on its own."
    )
    return Section(
        f"Which texts: teacher against student on {found.split}",
        small=tuple(charts),
        small_note=note,
        folded=(
            (_of_split(tables.matrices(found.comparisons), found), ""),
            (_of_split(tables.agreements(found.comparisons), found), AGREEMENT_NOTE),
        ),
    )


def ensembles(group: Group) -> Section | None:
    """The students of each arm together against the teacher; None where no arm has several."""
    arms = {arm.name: arm.runs for arm in group.arms if len(arm.runs) > 1}
    if group.teacher is None or not arms:
        return None
    table = tables.verdicts(compare_ensembles(group.teacher.runs[0], arms))
    note = (
        "As in the paper's first version: by the mean of the students' scores, and by the majority of their decisions, "
        "which is compared with the teacher's decisions."
    )
    return Section("Ensembles of students", tables=((replace(table, name="ensembles"), note),))


def exposed(found: Findings, show_texts: bool) -> Section:
    """The members that most attacks find in the first model, masked unless asked for."""
    _, first = found.entries[0]
    tasks = list(first.runs[0].on(found.split).values())
    members = most_exposed(tasks)[:TEXTS]
    others = {entry.name: _found_in(entry, found.split) for _, entry in found.entries[1:][: figures.COLOURS]}
    rows = tuple(_exposed_row(one, len(tasks), others, show_texts) for one in members)
    table = Table(
        f"exposed-{found.split}",
        f"The {len(rows)} most exposed members under {first.name}",
        ("text", "found by", "non-members below it", "also found in", "id"),
        rows,
    )
    judged = {item.id for item in tasks[0].items if item.label == 1}
    shares = ", ".join(f"{len(ids & judged) / len(judged):.0%} in {name}" for name, ids in others.items())
    note = (
        "Found by: attacks that call it a member. Also found in: models in which at least half of the attacks (over "
        f"all seeds) call it a member{f'; of all members these are {shares}' if shares else ''}. The id is the "
        "beginning of the text's SHA-256."
    ) + ("" if show_texts else " Letters and digits are hidden; --show-texts shows them.")
    return Section(f"The most exposed texts of {found.split}", tables=((table, note),))


def _exposed_row(one: Exposed, attacks: int, others: Mapping[str, Set[str]], show_texts: bool) -> tuple[Cell, ...]:
    text = "(the run kept no texts)" if one.text is None else one.text if show_texts else mask(one.text)
    cut = text if show_texts or len(text) <= MASKED_LENGTH else f"{text[:MASKED_LENGTH]} …"
    also = [name for name, ids in others.items() if one.id in ids]
    return (
        cut,
        f"{len(one.found_by)} of {attacks}: {', '.join(one.found_by) or 'none'}",
        f"{100 * one.above_nonmembers:.1f} %",
        ", ".join(also) or "none",
        one.id,
    )


def _found_in(entry: Entry, split: str) -> set[str]:
    """The members that at least half the attacks, over all seeds, call members."""
    decisions: dict[str, list[bool]] = {}
    for run in entry.runs:
        for task in run.on(split).values():
            for item, called in zip(task.items, task.decisions.tolist(), strict=True):
                if item.label == 1:
                    decisions.setdefault(item.id, []).append(called)
    return {name for name, called in decisions.items() if 2 * sum(called) >= len(called)}


def epsilon_section(found: Findings) -> Section:
    """The one-run lower bound on ε of every run, or the reason why there is none."""
    bounds = [
        (entry.name, run.model, task.attack, bound)
        for _, entry in found.entries
        for run, found_in in zip(entry.runs, arm_epsilons(entry.runs), strict=True)
        for task, bound in zip(run.tasks.values(), found_in, strict=True)
        if task.split == found.split
    ]
    title = f"ε of differential privacy, a lower bound: {found.split}"
    if all(math.isnan(bound.value) for *_, bound in bounds):
        reasons = sorted({bound.reason for *_, bound in bounds})
        return Section(title, tuple(f"There is {reason}." for reason in reasons))
    table = Table(
        f"epsilon-{found.split}",
        "Lower bound on ε of each model",
        ("model", "run", "attack", "ε at least", "confidence", "what it says"),
        tuple(
            (name, run, attack, bound.value, f"{bound.confidence:.1%}", bound.reason)
            for name, run, attack, bound in bounds
        ),
    )
    note = "Steinke, Nasr and Jagielski 2023, one training run, δ = 0. 0 = no evidence, which is no proof of privacy."
    return Section(title, (_largest(bounds),), folded=((table, note),))


def _largest(bounds: Sequence[tuple[str, str, str, Epsilon]]) -> str:
    """One line: the largest bound of each model."""
    best: dict[str, tuple[float, str]] = {}
    for name, _, attack, bound in bounds:
        if not math.isnan(bound.value):
            best[name] = max(best.get(name, (-1.0, "")), (bound.value, attack))
    said = [
        f"{name} {value:.2f} ({attack})" if value else f"{name} no evidence" for name, (value, attack) in best.items()
    ]
    return f"Largest bound of each model, at 95 % confidence over its attacks and its seeds: {', '.join(said)}."


def trade(found: Findings, utility: str | None) -> Section:
    """Privacy against utility: chart and table, or a sentence where the runs share no perplexity."""
    heading = f"Privacy and utility together: {found.split}"
    runs = [run for _, entry in found.entries for run in entry.runs]
    name = utility or shared_perplexity(runs)
    if name is None:
        remedy = f"evaluate each on a held-out text as well, for example with the task heldout_{found.split}"
        return Section(heading, (f"Not shown: these runs share no perplexity; {remedy}.",))
    measured = iter(points(runs, found.split, name))
    rows: list[tuple[Cell, ...]] = []
    trades = []
    for position, entry in found.entries:
        for run, point in zip(entry.runs, measured, strict=False):
            cost = Estimate(*with_error(run, point.utility)[2:4])
            if math.isfinite(point.leak.value) and math.isfinite(cost.value):
                trades.append(figures.Trade(entry.name, position, point.leak, cost, point.on_front))
            rows.append((entry.name, run.model, point.leak, point.attack, cost, "yes" if point.on_front else "no"))
    columns = ("model", "run", "leak |AUROC − 0.5|", "under", name, "on the front")
    table = Table(f"privacy-utility-{found.split}", f"Leak and {name}", columns, tuple(rows))
    better = "higher" if runs[0].utility[name].higher_is_better else "lower"
    label = f"{name.replace('/', ': ').replace('_', ' ')} ({better} = a better model)"
    charts = ((TRADE_CAPTION, figures.trade_figure(trades, label)),) if trades else ()
    noted = ((table, TRADE_NOTE),)
    few = len(rows) <= figures.COLOURS
    return Section(
        heading, charts=charts, legend=key(found.entries), tables=noted if few else (), folded=() if few else noted
    )
