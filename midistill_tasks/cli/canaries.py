"""``midistill canaries``: makes canaries to plant in training data, and checks that they stand there."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

DESCRIPTION = """\
An audit that is valid by design: made-up texts of which fair coins decide whether they are trained on.

  1  midistill canaries make --output canaries/              inserted.jsonl to mix in, held_out.jsonl to keep
  2  cat train.jsonl canaries/inserted.jsonl > mixed.jsonl   then train on mixed.jsonl as you always do
  3  midistill canaries verify canaries/ mixed.jsonl         are they there as planned?
  4  lm_eval --tasks mia_canaries --model hf --model_args pretrained=MODEL \\
       --metadata '{"mia": {"canaries": "canaries/"}}' --output_path results --log_samples
  5  midistill report results                                what is proven about epsilon, and what is not

docs/canaries.md goes through it.
"""
MAKE = """\
examples:
  midistill canaries make --output canaries/
  midistill canaries make --n 3000 --repeats 1,4,16 --output canaries/
  midistill canaries make --kind rare --like train.jsonl --tokenizer MODEL --output canaries/
  midistill canaries make --kind like --like train.jsonl --column body --output canaries/

kinds:
"""
VERIFY = """\
examples:
  midistill canaries verify canaries/ mixed.jsonl
  midistill canaries verify canaries/ 'parts/*.parquet' --column body

A canary is also found within a longer text. Exit status: 0 as planned, 1 not so, 2 where something cannot be read.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb's own two verbs."""
    from midistill_tasks.canaries.make import KINDS

    parser.description = DESCRIPTION
    raw = argparse.RawDescriptionHelpFormatter
    verbs = parser.add_subparsers(dest="what", required=True, metavar="make|verify")
    kinds = "\n".join(f"  {name:<7} {text}" for name, text in KINDS.items())
    text = "writes inserted.jsonl to mix in, held_out.jsonl to keep, and canaries.json, by which both can be made again"
    make = verbs.add_parser("make", help=text, description=text, epilog=f"{MAKE}{kinds}", formatter_class=raw)
    make.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder to make")
    make.add_argument("--n", type=int, default=1000, help="canaries, inserted and held out (default: %(default)s)")
    make.add_argument("--kind", default="bios", metavar="KIND", help=f"{', '.join(KINDS)} (default: %(default)s)")
    make.add_argument(
        "--repeats",
        type=_numbers,
        default=(1,),
        metavar="1,4,16",
        help="how often an inserted canary stands in the file: a group of equal size for each number (default: 1)",
    )
    make.add_argument("--like", nargs="+", default=(), metavar="FILE", help="your own texts: files, folders or globs")
    make.add_argument("--tokenizer", metavar="MODEL", help="of the model to be trained: a folder or hub name")
    make.add_argument("--column", default="text", help="name of the text's column (default: %(default)s)")
    make.add_argument("--seed", type=int, help="of all draws; by default one that nobody chose, which is written down")
    text = "whether training data holds the inserted canaries as often as planned and none that was held out"
    verify = verbs.add_parser("verify", help=text, description=text, epilog=VERIFY, formatter_class=raw)
    verify.add_argument("folder", metavar="FOLDER", help="that `make` wrote")
    verify.add_argument("files", nargs="+", metavar="TRAIN_FILE", help="training data: files, folders or globs")
    verify.add_argument("--column", help="of the training data's texts, where it differs from the canaries'")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no list of whole numbers such as 1,4,16") from None


def run(args: argparse.Namespace) -> int:
    """Makes or verifies."""
    return _make(args) if args.what == "make" else _verify(args)


def _make(args: argparse.Namespace) -> int:
    from midistill_tasks.canaries.make import LEAST, Wanted, make
    from midistill_tasks.splits.canaries import HELD_OUT, INSERTED

    names = ("n", "kind", "repeats", "seed", "column", "tokenizer")
    plan = make(Wanted(**{name: getattr(args, name) for name in names}, like=tuple(args.like)), args.output)
    for repeats, sides in plan.groups.items():
        print(f"repeats {repeats:>4}: {sides['inserted']} canaries inserted, {sides['held_out']} held out")
    if plan.tokenizer:
        last, used = plan.tokenizer.endings, plan.tokenizer.most_used
        print(f"they end in {last} different tokens, none of which stands more than {used} times in --like")
    small = [repeats for repeats, sides in plan.groups.items() if sum(sides.values()) < LEAST]
    if small:
        print(f"of repeats {', '.join(small)} there are too few for an epsilon of their own: give {LEAST} for each")
    lines = sum(int(repeats) * sides["inserted"] for repeats, sides in plan.groups.items())
    print(f"{args.output / INSERTED}: {lines} lines to mix into the training data; seed {plan.seed}")
    print(f"{args.output / HELD_OUT}: keep it, and train nothing on it")
    print(f"then: midistill canaries verify {args.output} MIXED_FILE")
    metadata = json.dumps({"mia": {"canaries": str(args.output)}})
    print(f"and : lm_eval --tasks mia_canaries --model hf --model_args pretrained=MODEL --metadata '{metadata}'")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from midistill_tasks.canaries.verify import verify
    from midistill_tasks.splits.canaries import read_canaries

    found = verify(read_canaries(args.folder), args.files, args.column)
    for repeats in found.planted.plan.repeats:
        planned, there = found.found(repeats)
        print(f"repeats {repeats:>4}: {there} lines of inserted canaries found, {planned} planned")
    print(f"held out: {len(found.leaked)} of {len(found.planted.held_out)} found; {found.rows} rows read")
    if found.fault:
        print(f"midistill canaries: {found.fault}", file=sys.stderr)
    return int(bool(found.fault))
