"""``midistill tasks``: the MIA tasks by attack and split, and the folder of their YAMLs."""

from __future__ import annotations

import argparse

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.harness import yaml_folder
from midistill_tasks.harness.expand import groups
from midistill_tasks.splits import SPLITS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=["list", "path"],
        default="list",
        help="'path' prints the folder for lm_eval's --include_path, where the plugin is switched off",
    )


def run(args: argparse.Namespace) -> int:
    """Prints the list or the path."""
    print(yaml_folder() if args.what == "path" else listing())
    return 0


def listing() -> str:
    """Attacks, splits, groups and tags, one line each."""
    attacks = [f"  {attack.name:<10} {attack.title} ({attack.source})" for attack in ATTACKS.values()]
    width = max(map(len, SPLITS))
    splits = [f"  {split.name:<{width}} {split.title}" for split in SPLITS.values()]
    paper = ", ".join(f"mia_{split.name}" for split in SPLITS.values() if split.paper)
    return "\n".join(
        [
            "A task is an attack on a split: mia_<attack>_<split>, for example mia_mink_wikitext.",
            "",
            "Attacks (tag mia_<attack>: this attack on every split but those of your own texts)",
            *attacks,
            "",
            f"Splits (groups: mia_<split> is {', '.join(groups()['mia'])};",
            f"        mia_all_<split> is all attacks; mia_strong_<split> is {', '.join(groups()['mia_strong'])})",
            *splits,
            "",
            f"mia_paper is the group of the paper's four data sets: {paper}.",
            "The harness refuses a task that is asked for twice (mia_paper,mia_wikimia_64, or a glob that matches both",
            "a group and its tasks): name one of them.",
        ]
    )
