"""``midistill backends``: which of the harness's models the attacks run on, and what is installed."""

from __future__ import annotations

import argparse

HELP = "the harness's --model names that attacks run on, and what each can give"
EPILOG = """\
Statistics: logprob of each token; greedy, whether it was the likeliest; moments, mean and deviation of the next token's
log-probability; gradient, norms of the loss's gradient; text, what the model goes on with. A scorer of your own package
is found by the entry point group midistill.scorers (CONTRIBUTING.md, "A backend").
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG


def run(args: argparse.Namespace) -> int:
    """Prints the table, and how to get what is not there."""
    from midistill_tasks.results.table import Table
    from midistill_tasks.scoring.models import BACKENDS, of_other_packages

    rows = [
        (
            one.model,
            "yes" if one.installed else "no",
            ", ".join(one.gives) or "nothing",
            _short(one.lacks),
            one.what,
        )
        for one in BACKENDS
    ]
    rows += [(name, "yes", ", ".join(gives), "", "of another package") for name, gives in of_other_packages()]
    columns = ("--model", "installed", "gives", "attacks without figures", "what")
    print(Table("backends", "Backends", columns, tuple(rows)).markdown())
    for extra in dict.fromkeys(one.install for one in BACKENDS if not one.installed):
        models = ", ".join(one.model for one in BACKENDS if one.install == extra)
        print(f"{models}: pip install '{extra}'")
    return 0


def _short(names: list[str]) -> str:
    from midistill_tasks.attacks import ATTACKS

    left = [name for name in ATTACKS if name not in names]
    return ", ".join(names) if len(names) <= len(left) else f"all but {', '.join(left)}"
