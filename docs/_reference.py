"""Writes docs/reference.md from what the code says: ``python docs/_reference.py`` (``--check`` only compares)."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from midistill_tasks.attacks import ATTACKS, Attack
from midistill_tasks.cli.main import VERBS
from midistill_tasks.harness.expand import groups
from midistill_tasks.harness.keys import DEFAULT_METRICS, default_metrics
from midistill_tasks.harness.options import known_options
from midistill_tasks.metrics import METRICS
from midistill_tasks.recipes.file import describe_recipe
from midistill_tasks.report.machine import Report
from midistill_tasks.results.schema import Sample, TaskMetadata
from midistill_tasks.scoring.models import BACKENDS
from midistill_tasks.splits import SPLITS
from midistill_tasks.stats.tables import load_stats
from midistill_tasks.study.recipe import Study
from midistill_tasks.views import View

PAGE = Path(__file__).parent / "reference.md"
HEAD = """\
# Reference

Written by `docs/_reference.py` from the code; CI holds both together.
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
        reads = f"{', '.join(views[:3])}{' …' if len(views) > 3 else ''}"
        reads += f"; {', '.join(sorted(attack.needs))}" if attack.needs else ""
        inside = [f"`{name}_<split>`" for name, names in groups().items() if attack.name in names]
        title = attack.title[0].upper() + attack.title[1:]
        yield [f"`{attack.name}`", title, attack.source, reads, ", ".join(attack.fields) or "–", ", ".join(inside)]


NOTATION = """
One by one. ℓ_t = log p(x_t | x_<t), in nats, of the T scored tokens of a text; higher = more likely a member. The
formula is the first paragraph of the attack's own docstring, `needs` and `cost` are made of what it declares. Equal
views of all attacks of a run cost one forward, so all that read `text` alone cost one together. Where nothing is said
of published code or the paper, no difference is known to us; `tests/oracle.py` has readings of the papers in plain
float64.
"""


def details() -> Iterator[str]:
    """Each attack: formula, what it needs, what it costs, differences."""
    for attack in ATTACKS.values():
        formula, *more = re.split(r"\n\n+", inspect.getdoc(attack.function) or "")
        notes = [" ".join(part.split()) for part in more]
        against = [note for note in notes if note.startswith("Against ")]
        needs = sorted(attack.needs) if not attack.generates else ["what the model goes on with"]
        without = [backend.model for backend in BACKENDS if not backend.runs(attack)]
        lines = [
            f"formula: {' '.join(formula.split())}",
            *(f"note: {note}" for note in notes if note not in against),
            f"needs: {', '.join(needs)}{_more_needs(attack)}",
            f"cost: {cost(attack)}",
            f"no figures on: {', '.join(f'`{model}`' for model in without) or '–'}",
            f"source: {attack.source}",
            *(f"against {note.removeprefix('Against ')}" for note in against),
        ]
        yield f"### `{attack.name}`\n\n" + "\n".join(f"- {_marked(line)}" for line in lines) + "\n"


def _marked(line: str) -> str:
    head, _, rest = line.partition(": ")
    return f"**{head}**: {_prose(rest)}"


def _more_needs(attack: Attack) -> str:
    more = [f"the option `{name}`" for name in attack.requires]
    if attack.needs_reference:
        more.append("a reference model")
    elif attack.reads_reference:
        more.append("a reference model, where there is one")
    if attack.fitted:
        more.append("labels of the other half of the texts")
    return f"; {', '.join(more)}" if more else ""


def cost(attack: Attack) -> str:
    """What the model is asked for each text, by the attack's views under its default options."""
    counts: dict[str, int] = {}
    for view in attack.views:
        what = _asked(view)
        counts[what] = counts.get(what, 0) + (view.prompt("a b").samples if view.prompt else 1)
    return "per text " + " + ".join(f"{number} {what}" for what, number in counts.items())


def _asked(view: View) -> str:
    if view.prompt:
        return "× generation"
    if view.gradient:
        return "× forward and backward pass, one text at a time"
    if view.model == "reference":
        return "× forward of the reference model"
    if view.prefix != "none":
        return "× forward after shots, which are read once a run"
    return "× forward of the text" if view.transform is None else "× forward of a changed text"


def backends() -> Iterator[list[str]]:
    """Name, what, statistics at best, extra."""
    for one in BACKENDS:
        yield [f"`{one.model}`", one.what, ", ".join(one.gives), f"`{one.install}`" if one.install else ""]


def verbs() -> Iterator[str]:
    """Each verb with its arguments."""
    for name, (module, text) in VERBS.items():
        parser = argparse.ArgumentParser(add_help=False)
        importlib.import_module(module).add_arguments(parser)
        yield f"### `midistill {name}`\n\n{text[0].upper()}{text[1:]}.\n"
        below = next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)
        if below is None:
            yield from _arguments(parser)
        else:
            for verb, sub in below.choices.items():
                yield f"`midistill {name} {verb}`: {sub.description}.\n"
                yield from _arguments(sub)


def _arguments(parser: argparse.ArgumentParser) -> Iterator[str]:
    rows = []
    for action in (one for one in parser._actions if not isinstance(one, argparse._HelpAction)):
        shown = (action.metavar or action.dest).upper() if action.nargs != 0 else ""
        named = f"{action.option_strings[-1]} {shown}".strip() if action.option_strings else shown
        values = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
        text = (action.help or "").replace("%(default)s", str(action.default))
        rows.append([f"`{named}`", f"{text}{values}", "yes" if action.required else ""])
    if rows:
        yield table(("argument", "what", "required"), rows) + "\n"


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


def _prose(docstring: str) -> str:
    """What a docstring says, without its section on errors, in Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", docstring.partition("\n\nRaises:")[0])


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
        NOTATION,
        *details(),
        "## Metrics\n",
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
        "\n## `report.json`\n\nWritten by `midistill report --json`, read by `midistill_tasks.read_report`.\n",
        table(("key", "", "what"), fields(Report)),
        "\nAll three as JSON schemas: `midistill schema`.\n\n## Statistics of tokens: a Parquet file\n",
        f"{_prose(inspect.getdoc(load_stats) or '')}\n\n## Backends\n",
        table(("`--model`", "what", "gives, at best", "install"), backends()),
        "\n## Keys of a recipe\n\nOf `midistill distill`; defaults in brackets.\n",
        f"```text\n{describe_recipe()}\n```\n",
        "## Keys of a study\n\nOf `midistill study`; defaults in brackets.\n",
        f"```text\n{describe_recipe(Study)}\n```\n\n## Verbs\n",
        table(("verb", "what"), ([f"`midistill {name}`", text] for name, (_, text) in VERBS.items())),
        "\nEach has `--help` with examples. Exit status: 0, 1 where something failed, 2 for input that you can mend.\n",
        *verbs(),
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
