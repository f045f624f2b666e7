"""`midistill recipes`: lists the shipped recipes, shows one, or teaches the format."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.add_argument("name", nargs="?", help="print this recipe, to save and edit")


def run(args: argparse.Namespace) -> int:
    """Prints the list and every key, or one recipe."""
    from midistill_tasks.recipes.file import describe_recipe, find_recipe, shipped_recipes

    if args.name:
        print(find_recipe(args.name, args.name.startswith("study-")).read_text(encoding="utf-8"), end="")
        return 0
    for name, path in {**shipped_recipes(), **shipped_recipes(studies=True)}.items():
        first = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        print(f"{name:<32} {first}")
    print("\n`midistill recipes NAME > recipe.yaml` is a place to start. Every key, with its default in brackets:\n")
    print(describe_recipe())
    return 0
