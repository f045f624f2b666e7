"""Writes docs/reference.md from what the code says: ``python docs/_reference.py`` (``--check`` only compares)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.cli.main import VERBS
from midistill_tasks.harness.expand import groups
from midistill_tasks.harness.keys import DEFAULT_METRICS, default_metrics
from midistill_tasks.harness.options import known_options
from midistill_tasks.metrics import METRICS
from midistill_tasks.results.schema import Sample, TaskMetadata
from midistill_tasks.splits import SPLITS

PAGE = Path(__file__).parent / "reference.md"
HEAD = """\
# Reference

Written by `docs/_reference.py` from the code; a test holds both together. Formulas and sources of the attacks stand in
their modules (`midistill_tasks/attacks`), one function each.
"""
BLIND = "AUROC of a bag-of-words classifier that never sees the model; stands once a split"
YAML_KEYS = (
    ("class", "`!function midistill_tasks.task.MIASplit` (all attacks of `mia_<split>`) or `…MIATask` (one)"),
    ("task", "its name, `mia_<attack>_<split>` or, of MIASplit, `mia_<split>`"),
    ("split", "the split's name in results and on the page; by default what is left of the task's name"),
    ("attack", "of MIATask: one of the attacks above"),
    ("dataset_path, dataset_name, dataset_kwargs, test_split", "where the rows are, as the harness has it"),
    ("process_docs", "a function that changes the rows, as the harness has it"),
    ("doc_to_text, doc_to_target", "a column, template or function: the text, and 1 for a member or 0"),
    ("metric_list", "entries `- metric: auroc`, of the metrics above; by default those that are marked"),
    ("optional", "true: without what the attack needs its row is left out instead of stopping the run"),
    ("metadata", "`version`, `valid_for` (the models for which the labels are true), and options, flat or under `mia`"),
)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def attacks() -> Iterator[list[str]]:
    """Name, title, source, what it reads, options, groups."""
    for attack in ATTACKS.values():
        views = list(dict.fromkeys(view.name for view in attack.views))
        reads = f"{', '.join(views[:3])}{' …' if len(views) > 3 else ''}; {', '.join(sorted(attack.needs))}"
        inside = [f"{name}_<split>" for name, names in groups().items() if attack.name in names]
        title = attack.title[0].upper() + attack.title[1:]
        yield [f"`{attack.name}`", title, attack.source, reads, ", ".join(attack.fields) or "–", ", ".join(inside)]


def metrics() -> Iterator[list[str]]:
    """Name, meaning, whether it is shown unasked, direction."""
    directions = {True: "higher is better", False: "lower is better", None: "none"}
    for metric in METRICS.values():
        of = [attack.name for attack in ATTACKS.values() if metric.name in attack.metrics]
        shown = "yes" if metric.name in DEFAULT_METRICS else f"{', '.join(of)}" if of else "on request"
        yield [f"`{metric.name}`", metric.description, shown, directions[metric.higher_is_better]]
    yield ["`blind_auroc`", BLIND, "yes", "none"]


def splits() -> Iterator[list[str]]:
    """Name, title, labels are true for, where the texts come from."""
    for split in SPLITS.values():
        where = split.config.get("dataset_path") or ("the hub" if split.downloads else "this machine")
        yield [f"`{split.name}`", split.title, split.valid_for, str(where), "yes" if split.paper else ""]


def options() -> Iterator[list[str]]:
    """Name, owners, default, meaning."""
    for name, (owners, field) in known_options().items():
        default = field.get_default(call_default_factory=True)
        yield [
            f"`{name}`",
            ", ".join(owners) or "all",
            "" if default is None else f"`{default}`",
            field.description or "",
        ]


def fields(model: type[BaseModel]) -> Iterator[list[str]]:
    """Key, whether it is always there, meaning."""
    for name, field in model.model_fields.items():
        yield [f"`{name}`", "always" if field.is_required() else "", field.description or ""]


def page() -> str:
    """The whole file."""
    picks = ", ".join(f"`{name}`" for attack in ATTACKS.values() if attack.picks for name in default_metrics(attack))
    request = (
        "A metric on request: in a task's YAML, `metric_list: [{metric: auroc}, {metric: balanced_acc_oracle}]`; in a "
        "plain harness task as `mia_<name>` (docstring of `midistill_tasks.harness.metrics`). "
        f"`strongest` has {picks} only."
    )
    parts = [
        HEAD,
        "## Attacks\n",
        table(("attack", "what", "source", "reads (views; statistics)", "options", "groups"), attacks()),
        "\n## Metrics\n",
        table(("metric", "what", "shown", "direction"), metrics()),
        f"\n{request}\n\n## Splits\n",
        table(("split", "what", "labels are true for", "texts from", "paper's"), splits()),
        "\nThe texts have the licences of their data sets: read them there. `bios`, `files` and `canaries` need no "
        "network.\n",
        "## Options\n",
        "Of `--metadata '{\"mia\": {…}}'`; the same names in a study's `evaluate`, and flat in a task's YAML.\n",
        table(("option", "of", "default", "what"), options()),
        "\n## A task's own YAML keys\n",
        table(("key", "what"), ([f"`{key}`", what] for key, what in YAML_KEYS)),
        "\n## A line of samples: `doc`\n",
        table(("key", "", "what"), fields(Sample)),
        "\n## A task in results: `configs.<task>.metadata.midistill`\n",
        table(("key", "", "what"), fields(TaskMetadata)),
        "\nBoth as JSON schemas: `midistill schema`.\n\n## Verbs\n",
        table(("verb", "what"), ([f"`midistill {name}`", text] for name, (_, text) in VERBS.items())),
        "\nEach has `--help` with examples.\n",
    ]
    return "\n".join(parts)


def main() -> int:
    """Writes or compares; 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page():
        return 0
    print("docs/reference.md is out of date: python docs/_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
