"""Takes a finished study's figures into docs/findings/data/NAME: ``python docs/findings/collect.py STUDY NAME``.

The figures are those of the study's page (`midistill report`), in a few small CSV files, and the study's settings as a
YAML file that `midistill study` takes. No text of a data set, no name of a text and no path of a machine is among them.
Afterwards: ``python docs/findings/make.py``.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lookups import EARLIER

from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.recipes.file import read_yaml
from midistill_tasks.report.answers import perplexities
from midistill_tasks.report.build import build
from midistill_tasks.report.machine import Report, report_of
from midistill_tasks.report.page import Page
from midistill_tasks.results.roles import Group, read_group
from midistill_tasks.results.table import Cell, Table, key_of
from midistill_tasks.study.recipe import Study

DATA = Path(__file__).parent / "data"
SETTINGS = "study.yaml"
DIGITS = 6
"""Significant ones of a figure: more than any text shows."""

TABLES: Mapping[str, tuple[str, ...]] = {
    "figures": ("model", "attack", "seeds", "AUROC", "TPR at 1 % FPR", "TPR at 0.1 % FPR"),
    "frontier": (*("student", "defence", "seeds", "attack", "leak |AUROC − 0.5|", "perplexity", "on the frontier"),),
    "shadows": ("model", "attack", "shadows", "seeds", "AUROC", "TPR at 1 % FPR", "TPR at 0.1 % FPR"),
    "epsilon": ("model", "task", "ε at least, δ = 0", "δ = 1e-05", "right guesses", "confidence"),
    "differences": ("arm", "control", "seeds", "texts", "tokens", "steps", "parameters"),
}
"""Those of the page's tables that are taken as they are, and of each these columns."""

NAMES = {
    "leak |AUROC − 0.5|": "leak",
    "on the frontier": "on_frontier",
    "ε at least, δ = 0": "epsilon",
    "δ = 1e-05": "epsilon_at_1e-5",
    "right guesses": "right_guesses",
}
"""A column's name on the page → in the file, where `key_of` has none."""

Row = dict[str, Cell]


def collect(study: Path, name: str, data: Path = DATA) -> Path:
    """Writes the study's files; what an earlier collection left under that name is removed.

    Args:
        study: its folder.
        name: of the folder in `data`: small letters, digits and -.
        data: docs/findings/data.

    Raises:
        InputError: another name, no study, or one of several splits; what is there stays.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or name == EARLIER:
        raise InputError(f"'{name}': a study's name has small letters, digits and -, and is not '{EARLIER}'")
    group = read_group([study])
    if group.teacher is None or len(group.splits) != 1:
        raise InputError(f"{study} is not a study with one split ({', '.join(group.splits)}): give a study's folder")
    recipe = read_yaml(study / SETTINGS, Study)
    page = build(group)
    files = _tables(page, group.splits[0])
    files["verdicts"] = list(_verdicts(page, group.splits[0]))
    files["models"] = list(_models(group, recipe))
    files["runs"] = list(_runs(report_of(page, group)))
    files["facts"] = list(_facts(group, recipe))
    settings = _settings(recipe, name)
    folder = data / name
    for old in folder.glob("*.csv"):
        old.unlink()
    for stem, rows in files.items():
        if rows:
            cells = tuple(tuple(map(_rounded, row.values())) for row in rows)
            write_atomically(folder / f"{stem}.csv", Table(stem, "", tuple(rows[0]), cells).csv())
    write_atomically(folder / SETTINGS, settings)
    return folder


def _tables(page: Page, split: str) -> dict[str, list[Row]]:
    by_name = {table.name.removesuffix(f"-{split}"): table for table in page.files}
    return {name: _rows(by_name[name], wanted) for name, wanted in TABLES.items() if name in by_name}


def _rows(table: Table, wanted: Sequence[str] | None = None) -> list[Row]:
    """Each row by the columns' names in the file."""
    taken = wanted or table.columns
    rows = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    return [{NAMES.get(column, key_of(column)): row[column] for column in taken} for row in rows]


def _verdicts(page: Page, split: str) -> Iterable[Row]:
    """Each arm against its teacher, its control and the frontier, in the page's words."""
    for said in page.statements:
        figures = dict(said.figures)
        attacks = f"{figures['strongest on teacher, AUROC']}; {figures['strongest on arm, AUROC']}"
        yield _verdict(said.about, "teacher", "teacher", said.word, figures["leak reduction"], attacks)
    tables = {table.name: table for table in page.files}
    for row in _rows(tables[f"controls-{split}"]) if f"controls-{split}" in tables else ():
        yield _verdict(row["arm"], "control", row["control"], row["than the control"], row["reduction of the leak"])
    equal = tables.get(f"equal-perplexity-{split}")
    for row in _rows(equal) if equal else ():
        word = row["than a vanilla student of its perplexity"]
        yield _verdict(row["arm"], "frontier", row["against"], word, row["reduction of the leak"])


def _verdict(arm: Cell, kind: str, against: Cell, word: Cell, reduction: Cell, attacks: str = "") -> Row:
    return {
        "arm": arm,
        "kind": kind,
        "against": against,
        "word": word,
        "reduction": reduction,
        "strongest (before; after)": attacks,
    }


def _models(group: Group, recipe: Study) -> Iterable[Row]:
    """Each model's perplexity, what its arm is, and on how much it was trained (smallest and largest of its seeds)."""
    beside = perplexities(group, {entry.name: entry for entry in group.entries})
    for entry in group.entries:
        found = beside[entry.name]
        trained = group.trained.get(entry.name, {}).values()
        sizes = {run.config.get("model_num_parameters") for run in entry.runs}
        yield {
            "model": entry.name,
            "trained": "yes" if entry.name in group.trained else "no",
            "arm": _arm(recipe, entry.name),
            "seeds": len(entry.runs),
            "parameters": _range(sizes),
            "texts": _range(student.texts for student in trained),
            "steps": _range(student.steps for student in trained),
            "measured": found.name if found else "",
            "perplexity": found.own if found else Estimate(math.nan, math.nan),
        }


def _arm(recipe: Study, name: str) -> str:
    """What is different in it, as a study has it, without where its texts were chosen."""
    if name not in recipe.arms:
        return ""
    given = recipe.arms[name].model_dump(mode="json", exclude_defaults=True, exclude={"selection"})
    return yaml.safe_dump(given, default_flow_style=True, sort_keys=False, width=10_000).strip()


def _range(counts: Iterable[int | None]) -> str:
    known = sorted({count for count in counts if count is not None})
    return "–".join(str(end) for end in dict.fromkeys([*known[:1], *known[-1:]]))


def _runs(report: Report) -> Iterable[Row]:
    """AUROC of every attack on every student by itself, with its error over texts."""
    for model in report.models:
        for run in model.runs:
            for attack in run.attacks:
                auroc = attack.figures["auroc"]
                figure = Estimate(*(math.nan if part is None else part for part in (auroc.value, auroc.stderr)))
                yield {"model": model.name, "run": run.model, "attack": attack.attack, "auroc": figure}


def _facts(group: Group, recipe: Study) -> Iterable[Row]:
    """Sizes, seeds, versions and dates, as (name, value)."""
    first = next(iter(group.teacher_run.on(group.splits[0]).values()))
    versions = group.teacher_run.versions
    days = sorted(run.date[:10] for run in group.runs)
    taught, documents = recipe.teacher.fine_tune, recipe.documents
    facts: dict[str, Cell] = {
        "teacher": Path(recipe.teacher.model or "").name,
        "teacher_epochs": taught.epochs if taught else "",
        "epochs": recipe.train.epochs,
        "tokens": documents.tokens if documents else "",
        "null_control": "yes" if documents and documents.null_control else "no",
        "members": int(first.labels.sum()),
        "nonmembers": int((~first.labels).sum()),
        "coins": "yes" if first.metadata["independent_coins"] else "no",
        "data_sha256": str(first.metadata["data_sha256"]),
        "blind_auroc": first.blind.value,
        "blind_auroc_stderr": first.blind.stderr,
        "seeds": max(len(entry.runs) for entry in group.arms),
        "shadows": max((len(runs) for runs in group.shadows.values()), default=0),
        "vanilla": group.frontier.arm if group.frontier else "",
        "first_day": days[0],
        "last_day": days[-1],
        "versions": ", ".join(f"{package} {version}" for package, version in versions.items()),
        "failed": len(group.failed),
    }
    return [{"fact": name, "value": value} for name, value in facts.items()]


def _settings(recipe: Study, name: str) -> str:
    """Those that are not the defaults; the output has the study's name, and no path leads to its machine."""
    given = recipe.model_dump(mode="json", exclude_defaults=True)
    settings = {**_anywhere(given, str(recipe.output)), "output": name}
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)


def _anywhere(setting: Any, output: str) -> Any:
    """The same without what the study made itself, and each other absolute path cut to …/ and its last part."""
    if isinstance(setting, dict):
        kept = {key: value for key, value in setting.items() if not _within(value, output)}
        return {key: _anywhere(value, output) for key, value in kept.items()}
    if isinstance(setting, list):
        return [_anywhere(value, output) for value in setting]
    return f"…/{Path(setting).name}" if isinstance(setting, str) and Path(setting).is_absolute() else setting


def _within(setting: Any, output: str) -> bool:
    return isinstance(setting, str) and setting.startswith(f"{output}/")


def _rounded(cell: Any) -> Any:
    """To `DIGITS`, with its error or limits."""
    if isinstance(cell, Estimate | Interval):
        return type(cell)(*map(_rounded, cell))
    return float(f"{cell:.{DIGITS}g}") if isinstance(cell, float) else cell


def main() -> int:
    """Collects, and says where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("name", help="of the study in the text: letters, digits and -")
    args = parser.parse_args()
    try:
        folder = collect(args.study, args.name)
    except InputError as error:
        parser.error(str(error))
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1000:.0f} kB. Now: python docs/findings/make.py")
    return 0


if __name__ == "__main__":
    sys.exit(main())
