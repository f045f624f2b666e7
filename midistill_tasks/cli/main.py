"""The command ``midistill``: one verb a line, each in a module of its own that is imported when the verb is used."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from midistill_tasks import __version__
from midistill_tasks.cli import console
from midistill_tasks.errors import InputError, Stopped

VERBS = {
    "attack": ("midistill_tasks.cli.attack", "attacks on statistics that a run saved, without the model"),
    "backends": ("midistill_tasks.cli.backends", "which of the harness's models the attacks run on"),
    "canaries": ("midistill_tasks.cli.canaries", "texts to plant in training data, for an audit valid by design"),
    "check": ("midistill_tasks.cli.check", "what an audit would leave out or be unable to say, without the model"),
    "compare": ("midistill_tasks.cli.compare", "a teacher against its students, from the harness's results"),
    "demo": ("midistill_tasks.cli.demo", "a whole study from nothing, on made-up people: no network, some minutes"),
    "distill": ("midistill_tasks.cli.distill", "train a student by a recipe"),
    "export": ("midistill_tasks.cli.export", "a student as its stock architecture, where that is exact"),
    "recipes": ("midistill_tasks.cli.recipes", "list the shipped recipes, show one, or explain every key"),
    "report": ("midistill_tasks.cli.report", "one page from the results of MIA tasks, for people"),
    "schema": ("midistill_tasks.cli.schema", "the JSON schemas of results, samples and report.json"),
    "score": ("midistill_tasks.cli.score", "statistics of a large split, in shards over processes and machines"),
    "select": ("midistill_tasks.cli.select", "find the members that an attack on the teacher finds"),
    "supervision": ("midistill_tasks.cli.supervision", "what the teacher tells its student about members"),
    "study": ("midistill_tasks.cli.study", "teacher, students, attacks and report by one recipe"),
    "tasks": ("midistill_tasks.cli.tasks", "list the MIA tasks by attack and split; 'tasks path' for --include_path"),
}

EPILOG = """\
The attacks themselves are tasks of the evaluation harness:
  lm_eval --tasks mia_bios --model hf --model_args pretrained=MODEL
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status (2 for input that the user can mend, 130 and 143 where it was stopped)."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(argv[0] if argv and argv[0] in VERBS else None)
    args = parser.parse_args(argv)
    console.set_up()
    try:
        with _termination_raises():
            return int(importlib.import_module(VERBS[args.verb][0]).run(args))
    except InputError as error:
        print(f"midistill {args.verb}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read what is printed has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt as stop:
        if os.environ.get("RANK", "0") == "0":
            more = ["--resume"] if args.verb == "distill" and not args.resume else []
            at = f" at {stop}" if isinstance(stop, Stopped) and str(stop) else ""
            again = shlex.join(["midistill", *argv, *more])
            print(f"\nmidistill {args.verb}: stopped{at}; to go on: {again}", file=sys.stderr)
        return stop.status if isinstance(stop, Stopped) else 128 + signal.SIGINT


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Lets SIGTERM end a verb as Ctrl-C does; a launcher's processes, which may wait in C for each other, just die.

    Once: `timeout` sends it to a process and to its group, systemd to parts that their study asks, too.
    """
    launched = "RANK" in os.environ or threading.current_thread() is not threading.main_thread()
    if launched or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The whole parser, with the arguments of the chosen verb only: the other modules are not imported."""
    parser = argparse.ArgumentParser(
        prog="midistill",
        description="Membership inference for language models, and distillation that leaks less.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"midistill {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (module, text) in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name == chosen:
            importlib.import_module(module).add_arguments(sub)
    return parser
