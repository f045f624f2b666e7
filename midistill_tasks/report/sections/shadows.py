"""What an attacker reaches who trains shadow models himself: apart from all else on the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from midistill_tasks.compare.curves import roc_curve
from midistill_tasks.compare.seeds import over_seeds
from midistill_tasks.compare.shadows.attacks import NAMES, SCORE, shadow_attacks
from midistill_tasks.errors import InputError
from midistill_tasks.report.findings import Findings
from midistill_tasks.report.page import Section
from midistill_tasks.report.sections import section
from midistill_tasks.report.sections.curves import roc_chart
from midistill_tasks.report.svg import COLOURS, model_legend
from midistill_tasks.results.run import AttackResult
from midistill_tasks.results.table import Cell, Table

TEXT = (
    "What an attacker reaches who can train such models himself. He knows the recipes, and many texts of which about "
    "half were trained on, and has trained shadow models on draws of his own from these texts: more than one knows who "
    "holds the model alone. That is why no answer and no verdict of this page is made of these figures. Read them "
    "beside the attacks without shadows, in the first rows of each model."
)
NOTE = (
    "Means over the seeds of an arm. 95 % intervals for other texts and, from three seeds on, other seeds; the shadows "
    "are taken as they are: others give somewhat other figures, and more of them mostly find more. A text is unscored "
    "where too few shadows saw it, or too few did not. A TPR at a low FPR has limits from five false positives on."
)
ONLINE = ("lira", "rmia")
CURVES = "Bands: 95 % bootstrap over texts, point by point; several seeds: their mean. Dashed: guessing."
WORDS = (
    ("shadow", "a model trained by the same recipe on another draw of the same texts; it is known which texts it saw"),
    (
        "lira",
        "how much likelier the model's confidence in a text, log(p / (1 − p)), is among shadows that saw it than among "
        "those that did not, both taken to be normal (Carlini et al. 2022); p is the geometric mean of the "
        "probabilities of the text's tokens",
    ),
    (
        "lira_offline",
        "the same without the shadows that saw the text: how far the model's confidence lies above the others",
    ),
    (
        "rmia",
        "the share of non-members whose p, over its mean among the shadows (of those that saw it and of those that did "
        "not, half each), is at most that of the text (Zarifzadeh et al. 2024, γ = 1)",
    ),
    ("rmia_offline", "the same without the shadows that saw the text, whose p is guessed from the others"),
)
COLUMNS = ("model", "attack", "shadows", "seeds", "AUROC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "texts unscored")
FIGURES = ("auroc", "tpr_at_1pct_fpr", "tpr_at_0.1pct_fpr")


@dataclass(frozen=True)
class _Attacked:
    """A model, or the students of an arm, and attack → its results on each."""

    position: int
    name: str
    shadows: int
    alone: Mapping[str, Sequence[AttackResult]]
    shadowed: Mapping[str, Sequence[AttackResult]]


@section(after="ensembles")
def shadows(findings: Findings) -> Section | None:
    """Of a study that has shadows; None for all others."""
    found = list(_attacked(findings))
    if not found:
        return None
    return Section(
        heading=f"With shadow models: {findings.split}",
        text=(TEXT,),
        charts=tuple(_curves(found)),
        legend=model_legend([(each.position, each.name) for each in found if each.position < COLOURS]),
        tables=((findings.of_split(_means(found)), NOTE),),
        glossary=WORDS,
        files=(findings.of_split(_runs(found)),),
    )


def _attacked(findings: Findings) -> Iterator[_Attacked]:
    for position, entry in findings.entries:
        runs = findings.group.shadows.get(entry.name, ())
        known = [result for run in runs if (result := run.on(findings.split).get(SCORE))]
        targets = entry.results(findings.split, SCORE)
        if not known or not targets:
            continue
        by_target = [shadow_attacks(target, known) for target in targets]
        of_all = {name: [results[name] for results in by_target] for name in NAMES}
        shadowed = {name: results for name, results in of_all.items() if all(map(_can_be_judged, results))}
        alone = {name: entry.results(findings.split, name) for name in (SCORE, findings.strongest_on(entry))}
        if shadowed:
            yield _Attacked(position, entry.name, len(known), alone, shadowed)


def _curves(found: Sequence[_Attacked]) -> Iterator[tuple[str, Markup]]:
    """Of the attacks by shadows of both kinds; of those by one kind where the former have no scores."""
    ran = [name for name in NAMES if any(name in each.shadowed for each in found)]
    for attack in [name for name in ONLINE if name in ran] or ran[:1]:
        drawn = [each for each in found if attack in each.shadowed and each.position < COLOURS]
        if drawn:
            curves = [(each.position, roc_curve(each.name, each.shadowed[attack])) for each in drawn]
            yield f"ROC of {attack}. {CURVES}", roc_chart(curves, attack)


def _can_be_judged(result: AttackResult) -> bool:
    try:
        return bool(len(result.decisions))
    except InputError:
        return False


def _rows(found: Sequence[_Attacked]) -> Iterator[tuple[_Attacked, str, int, Sequence[AttackResult]]]:
    """Model, attack, by how many shadows, and its results."""
    for each in found:
        yield from ((each, name, 0, results) for name, results in each.alone.items())
        yield from ((each, name, each.shadows, results) for name, results in each.shadowed.items())


def _means(found: Sequence[_Attacked]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for each, name, count, results in _rows(found):
        unscored = max(sum(math.isnan(item.score) for item in result.items) for result in results)
        figures = (over_seeds(results, figure) for figure in FIGURES)
        rows.append((each.name, name, count, len(results), *figures, unscored))
    return Table("shadows", "Attacks with and without shadow models", COLUMNS, tuple(rows))


def _runs(found: Sequence[_Attacked]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (each.name, number, name, count, *(result.measured[figure] for figure in FIGURES))
        for each, name, count, results in _rows(found)
        for number, result in enumerate(results, 1)
    ]
    columns = ("model", "run", "attack", "shadows", *COLUMNS[4:7])
    return Table("shadows_runs", "Each student's, ± standard error over texts", columns, tuple(rows))
