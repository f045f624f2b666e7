"""`midistill distill`: trains a student by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from midistill_tasks.cli.console import logged
from midistill_tasks.recipes.file import describe_recipe

if TYPE_CHECKING:
    from midistill_tasks.recipes.schema import Recipe

EXAMPLES = """\
examples:
  midistill distill bios                                    the embedded default: no network, a minute or two
  midistill distill recipe.yaml --set train.epochs=3        any key of the recipe can be overridden
  midistill distill recipe.yaml --dry-run                   what would be trained, and an estimate of its cost
  midistill distill recipe.yaml --resume                    goes on after an interruption, even kill -9
  torchrun --nproc_per_node 2 -m midistill_tasks.cli distill recipe.yaml
  accelerate launch --config_file examples/accelerate/ddp.yaml -m midistill_tasks.cli distill recipe.yaml
the recipe's keys [defaults]:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Trains a student by a recipe; `lm_eval --model hf --model_args pretrained=OUTPUT` loads it."
    parser.epilog = EXAMPLES + "\n".join(f"  {line}" for line in describe_recipe().splitlines())
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped recipe (see `midistill recipes`)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, such as train.epochs=3"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="time a few steps, say what would be trained at what cost, write nothing"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run in the output folder")


def run(args: argparse.Namespace) -> int:
    """Trains, saves, and prints what was measured."""
    from midistill_tasks.distill.run import run_recipe
    from midistill_tasks.recipes.file import load_recipe

    recipe = load_recipe(args.recipe, args.set)
    if args.dry_run:
        return _dry_run(recipe, args.resume)
    with logged(Path(recipe.output)):
        record = run_recipe(recipe, resume=args.resume)
    for name, value in record.measured.items():
        print(f"{name:<28} {value:.4g}")
    if record.dp:
        print(record.dp["guarantee"])
    print(f"{recipe.output}: load it with `lm_eval --model hf --model_args pretrained={recipe.output}`")
    return 0


def _dry_run(recipe: Recipe, resume: bool) -> int:
    from midistill_tasks.distill.costs.forecast import forecast, said

    with TemporaryDirectory() as scratch, logged(Path(scratch)):  # keeps what libraries say away from people
        found = forecast(recipe, resume)
    print(said(found, recipe))
    return 0
