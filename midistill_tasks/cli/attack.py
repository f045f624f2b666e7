"""`midistill attack`: attacks on statistics that a run saved, without the model."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from midistill_tasks.offline.attacks import Attacked

HELP = "attacks on saved statistics of tokens: other attacks, other options, no model"
EPILOG = """\
the statistics come from a run such as
  lm_eval --tasks mia_all_files --model hf --model_args pretrained=MODEL --batch_size 8 \\
    --metadata '{"mia": {"members": "a.jsonl", "nonmembers": "b.jsonl", "save_stats": "stats"}}'
then, in seconds
  midistill attack stats                                      every attack that they allow
  midistill attack stats --attack mink,minkpp --k 0.1:0.5:0.1 two, over five values of k
  midistill attack stats --output results && midistill report results
Of several values the table shows each, and 'crossfit': the score by the value that tells the other half of the texts
best. That one is the result; the best of the others was chosen by looking at the judged texts.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    from midistill_tasks.attacks import ATTACKS

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("stats", help="folder that save_stats named, or one of its Parquet files")
    parser.add_argument("--attack", metavar="A,B,…", help="which; by default all that the statistics allow")
    owners: dict[str, list[str]] = {}
    for attack in ATTACKS.values():
        for name in attack.fields:
            owners.setdefault(name, []).append(attack.name)
    options = parser.add_argument_group("options of attacks", "a value, several (0.1,0.2), or a range (0.1:0.5:0.1)")
    for name, attacks in owners.items():
        meanings: dict[str | None, list[str]] = {}
        for attack_name in attacks:
            meanings.setdefault(ATTACKS[attack_name].fields[name][1].description, []).append(attack_name)
        help_text = "; ".join(f"{', '.join(names)}: {meaning}" for meaning, names in meanings.items())
        options.add_argument(f"--{name.replace('_', '-')}", dest=f"option_{name}", metavar="V", help=help_text)
    parser.add_argument("--output", metavar="FOLDER", help="write results and samples, for compare and report")


def run(args: argparse.Namespace) -> int:
    """Prints a table a model and split, and writes with --output."""
    from pathlib import Path

    from midistill_tasks.harness.options import parse_options
    from midistill_tasks.offline.attacks import attack_stats
    from midistill_tasks.offline.writing import write
    from midistill_tasks.stats.parts import parts_below

    given = {key.removeprefix("option_"): value for key, value in vars(args).items() if key.startswith("option_")}
    options = parse_options({"mia": {key: _values(key, value) for key, value in given.items() if value is not None}})
    names = args.attack.split(",") if args.attack else None
    for parts in parts_below(args.stats):
        about = parts[0].about
        found, lacking = attack_stats(parts, options, names)
        print(_table(f"{about['model']}, {about['split']}", found))
        if found and (judged := found[0].about.get("blind_texts")):
            total = sum(part.texts for part in parts)
            print(f"blind_auroc is of {judged} of the {total} texts, which it must have together: chosen by a hash")
        for name, why in lacking.items():
            print(f"{name}: {why}")
        if args.output and found:
            print(f"Written: {write(Path(args.output), parts, found)}")
    return 0


def _table(title: str, attacked: Sequence[Attacked]) -> str:
    from midistill_tasks.metrics.estimate import Estimate
    from midistill_tasks.results.table import Table

    columns = {"auroc": "AUROC", "tpr_at_1pct_fpr": "TPR at 1 % FPR", "balanced_acc": "balanced accuracy"}
    none = (math.nan, math.nan)  # what compares two halves has no threshold for both
    rows = tuple(
        (one.about["attack"], "" if name == "none" else name, *(Estimate(*figures.get(key, none)) for key in columns))
        for one in attacked
        for name, figures in one.figures.items()
    )
    return Table("attacks", title, ("attack", "option", *columns.values()), rows).markdown()


def _values(name: str, text: str) -> object:
    """``0.1`` → a number, ``0.1,0.2`` → a list, ``0.1:0.5:0.1`` → a list up to 0.5, ``true`` → a truth value."""
    from midistill_tasks.errors import InputError

    if text.count(":") == 2:
        try:
            first, last, step = map(float, text.split(":"))
            count = math.floor((last - first) / step + 1e-9)  # of steps that do not lead beyond the last
            if count < 0 or step == 0 or count > 1000:
                raise ValueError
        except (OverflowError, ValueError, ZeroDivisionError):
            raise InputError(f"--{name} {text}: a range is FIRST:LAST:STEP, such as 0.1:0.5:0.1") from None
        return [round(first + number * step, 10) for number in range(count + 1)]
    parts = text.split(",")
    values = parts if name in _words() else [_value(part) for part in parts]
    return values if len(values) > 1 else values[0]


def _words() -> set[str]:
    """Options whose values are words, even where they look like numbers (norm: 1, 2 or inf)."""
    from typing import get_origin

    from midistill_tasks.attacks import ATTACKS

    return {
        name
        for one in ATTACKS.values()
        for name, (kind, _) in one.fields.items()
        if str(get_origin(kind)) == "typing.Literal"
    }


def _value(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text
