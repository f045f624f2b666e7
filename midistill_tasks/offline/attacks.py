"""Attacks on saved statistics: what a run of the harness would write of them, without the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from midistill_tasks.attacks import ATTACKS, Attack
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.harness.figures import metrics_of
from midistill_tasks.harness.keys import default_metrics
from midistill_tasks.harness.options import Options
from midistill_tasks.harness.scores import Found, chosen_of, filters_of, judged, reasons
from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.metrics.blind import Blind, blind_auroc
from midistill_tasks.results.run import as_number
from midistill_tasks.results.stats import about_of, model_folder, statistics
from midistill_tasks.results.strict import strict
from midistill_tasks.views import TokenStats, Unscored, View

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Attacked:
    """One attack on a table of statistics.

    Attributes:
        task: ``mia_<attack>_<split>``.
        figures: filter → metric → value and error, NaN where there is none.
        samples: as lines of the harness's samples file.
        about: as its ``metadata.midistill``.
    """

    task: str
    figures: Mapping[str, Mapping[str, tuple[float, float]]]
    samples: Sequence[Mapping[str, Any]]
    about: Mapping[str, Any]


@dataclass(frozen=True)
class _Texts:
    """A table by text: id → document, and id → name of the view → statistics."""

    docs: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Mapping[str, TokenStats | Unscored]]
    blind: Blind | None

    @property
    def views(self) -> set[str]:
        return {name for views in self.answers.values() for name in views}

    def has(self, view: str) -> frozenset[str]:
        """What the statistics of a view hold."""
        found = (views.get(view) for views in self.answers.values())
        first = next((answer for answer in found if isinstance(answer, TokenStats)), None)
        return frozenset() if first is None else first.has


def attack_table(
    table: pd.DataFrame, options: Options, attacks: Sequence[str] | None = None
) -> tuple[list[Attacked], dict[str, str]]:
    """Attacks on the statistics of one model and split.

    Args:
        table: of `load_stats`.
        options: of the attacks; those of the run do not count again.
        attacks: which; by default all that the statistics allow.

    Returns:
        What was found, and attack → why it cannot be made from these statistics.

    Raises:
        InputError: an attack is not known, or nobody said which texts are members.
    """
    names = [ATTACKS.find(name, "--attack").name for name in attacks] if attacks else list(ATTACKS)
    if set(table["label"]) != {0, 1}:
        raise InputError(
            "the statistics are of texts of one class, or nobody said which are members: an attack needs both"
        )
    texts = _by_text(table)
    lacking = {name: why for name in names if (why := _lacks(ATTACKS[name], options.variants(name), texts))}
    chosen = [name for name in names if name not in lacking]
    bar = tqdm(chosen, desc="Attacking", unit="attack", leave=False)
    return [_attack(ATTACKS[name], options, texts, about_of(table)) for name in bar], lacking


def _by_text(table: pd.DataFrame) -> _Texts:
    docs: dict[str, dict[str, Any]] = {}
    answers: dict[str, dict[str, TokenStats | Unscored]] = {}
    for row in table.to_dict("records"):
        row = {key: None if _is_missing(value) else value for key, value in row.items()}
        docs.setdefault(row["id"], {"id": row["id"], "label": int(row["label"]), "cluster": row["cluster"]})
        answers.setdefault(row["id"], {})[row["view"]] = statistics(row)
        if row["view"] == "text" and row["text"] is not None:
            docs[row["id"]]["text"] = row["text"]
        if row.get("group") is not None:
            docs[row["id"]]["group"] = row["group"]
    blind = None
    if all("text" in doc for doc in docs.values()):
        listed = list(docs.values())
        words, labels, clusters = ([doc[key] for doc in listed] for key in ("text", "label", "cluster"))
        blind = blind_auroc(words, labels, clusters)
    return _Texts(docs, answers, blind)


def _is_missing(value: Any) -> bool:
    """Pandas has a NaN for a string that is not there."""
    return isinstance(value, float) and math.isnan(value)


def _lacks(attack: Attack, variants: Mapping[str, Mapping[str, Any]], texts: _Texts) -> str:
    """Why the attack cannot be made; "" where it can."""
    views = {view.name for options in variants.values() for view in attack.views_of(options)}
    if any(view.prompt for options in variants.values() for view in attack.views_of(options)):
        return "it needs the model, which goes on from the texts"
    missing = sorted(views - texts.views - attack.optional)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        return f"there is no view {missing[0]}{more}: save the statistics of a run with this attack"
    needs = sorted(set.union(*(set(attack.needs - texts.has(view)) for view in views & texts.views)))
    if "words" in needs:
        return "the texts were left out of the file (log_text false)"
    return f"the file has no {', '.join(needs)}: save the statistics of a run with this attack" if needs else ""


def _attack(attack: Attack, options: Options, texts: _Texts, saved: Mapping[str, Any]) -> Attacked:
    variants = options.variants(attack.name)
    wanted = {view for given in variants.values() for view in attack.views_of(given)}
    answers = {
        name: {view: views[view.name] for view in wanted if view.name in views} for name, views in texts.answers.items()
    }
    complete = {name: _all_views(attack, wanted, found) for name, found in answers.items()}
    found = judged(attack, variants, texts.docs, complete)
    samples, figures = [], {}
    for name in filters_of(variants):
        rows = _samples(texts, found, name)
        items = [Scored(row["label"], row["score"], row["id"], row["cluster"]) for row in rows]
        figures[name] = _figures(attack, items, texts.blind)
        samples += [
            {"doc_id": number, "doc": row, "target": row["label"], "filter": name} for number, row in enumerate(rows)
        ]
    about = _about(attack, variants, options, found, saved)
    return Attacked(f"mia_{attack.name}_{saved['split']}", figures, samples, about)


def _samples(texts: _Texts, found: Mapping[str, Found], filter_name: str) -> list[dict[str, Any]]:
    """The documents with their scores, as the harness logs them."""
    ranks = {} if texts.blind is None else dict(zip(texts.docs, texts.blind.ranks.tolist(), strict=True))
    return [
        {
            **doc,
            **found[id].length._replace(score=found[id].scores.get(filter_name, math.nan))._asdict(),
            **found[id].beside,
            **({} if math.isnan(ranks.get(id, math.nan)) else {"blind_rank": ranks[id]}),
        }
        for id, doc in texts.docs.items()
    ]


def _about(
    attack: Attack,
    variants: Mapping[str, Mapping[str, Any]],
    options: Options,
    found: Mapping[str, Found],
    saved: Mapping[str, Any],
) -> dict[str, Any]:
    """What a run would say of the task."""
    filter_name = filters_of(variants)[0]
    ours = {key: value for key, value in saved.items() if key not in ("model", "ranks", "model_identity", "learnt")}
    of_attacks = {name for other in ATTACKS.values() for name in other.fields}
    run_options = {key: value for key, value in saved["options"].items() if key not in of_attacks}
    unscored = sum(math.isnan(one.scores.get(filter_name, math.nan)) for one in found.values())
    return ours | {
        "attack": attack.name,
        **({"learnt": True} if attack.learns(variants) else {}),
        **({"chosen": list(chosen)} if (chosen := chosen_of(found)) else {}),
        "options": {**options.attacks[attack.name], **run_options},
        "counts": {**saved["counts"], "unscored": unscored},
        "unscored_reasons": reasons(found, filter_name),
        "from_stats": True,
    }


def _all_views(
    attack: Attack, wanted: set[View], found: Mapping[View, TokenStats | Unscored]
) -> dict[View, TokenStats | Unscored]:
    """The text's views, with a reason for each that it lacks; what the attack does without is left out."""
    return dict(found) | {
        view: Unscored(f"there is no view '{view.name}' of it")
        for view in wanted - found.keys()
        if view.name not in attack.optional
    }


def _figures(attack: Attack, items: Sequence[Scored], blind: Blind | None) -> dict[str, tuple[float, float]]:
    figures = {}
    for name in default_metrics(attack):
        if name == "blind_auroc":
            figures[name] = (math.nan, math.nan) if blind is None else (blind.value, blind.stderr)
            continue
        metric = metrics_of(attack)[name]
        figures[name] = (metric.value(items), as_number(metric.stderr(items)) if metric.stderr else math.nan)
    return figures


def write(folder: Path, saved: Mapping[str, Any], attacked: Sequence[Attacked]) -> Path:
    """Writes results and samples as the harness does, in a folder of the model; returns the results file.

    Raises:
        InputError: see `files.writing`.
    """
    date = datetime.now().isoformat().replace(":", "-")
    place = folder / model_folder(saved["model"])
    content = {
        "results": {one.task: {"alias": one.task, **_row(one)} for one in attacked},
        "group_subtasks": {},
        "configs": {one.task: {"task": one.task, "metadata": {"midistill": one.about}} for one in attacked},
        "versions": {one.task: 1.0 for one in attacked},
        "higher_is_better": {
            one.task: {name: _direction(name) for name in default_metrics(ATTACKS[one.about["attack"]])}
            for one in attacked
        },
        "config": {"model": "statistics", "model_args": {"pretrained": saved["model"]}},
        "model_name": saved["model"],
        "model_identity": saved.get("model_identity"),
        "date": date,
    }
    for one in attacked:
        lines = "".join(_json(sample) + "\n" for sample in one.samples)
        write_atomically(place / f"samples_{one.task}_{date}.jsonl", lines, ", such as another --output")
    results = place / f"results_{date}.json"
    write_atomically(results, _json(content, indent=2), ", such as another --output")
    return results


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(strict(content), indent=indent, ensure_ascii=False, allow_nan=False)


def _row(attacked: Attacked) -> dict[str, float | str]:
    row: dict[str, float | str] = {}
    for filter_name, figures in attacked.figures.items():
        for metric, (value, error) in figures.items():
            row[f"{metric},{filter_name}"] = value
            row[f"{metric}_stderr,{filter_name}"] = "N/A" if math.isnan(error) else error
    return row


def _direction(metric: str) -> bool | None:
    return METRICS[metric].higher_is_better if metric in METRICS else None
