"""`midistill study`: teacher, students, attacks and report by one recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from midistill_tasks.cli.console import logged
from midistill_tasks.errors import InputError
from midistill_tasks.files import writing
from midistill_tasks.study.executors import EXECUTORS

if TYPE_CHECKING:
    from midistill_tasks.study.run import Elsewhere, Outcome

HELP = "a teacher and its students from one recipe to one page; run it again to go on"
EXAMPLES = """\
examples:
  midistill study study-bios                     the embedded default: no network, some minutes
  midistill study study.yaml --dry-run           the plan and an estimate of its cost
  midistill study study.yaml                     goes on after any interruption, even kill -9
  midistill study study.yaml --jobs 2            parts that wait for nothing at the same time; see docs/study.md
  midistill study study.yaml --executor ray      on the machines of a cluster
  midistill study study.yaml --only teacher      on several machines: first the teacher, its attack and the selection,
  midistill study study.yaml --only vanilla/0    then each student (one folder each, in any order, at the same time),
  midistill study study.yaml                     then the report
shipped studies: see `midistill recipes`
the recipe's keys [defaults]:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    from midistill_tasks.recipes.file import describe_recipe
    from midistill_tasks.study.recipe import Study

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = HELP
    parser.epilog = EXAMPLES + "\n".join(f"  {line}" for line in describe_recipe(Study).splitlines())
    parser.add_argument("recipe", help="a YAML file, or the name of a shipped study")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key, such as seeds=[0,1,2]"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="time a few steps, print the plan and its cost, and do nothing"
    )
    parser.add_argument(
        "--only", metavar="PART", help="do this part alone: teacher, ARM/SEED, or STEP:NAME; several with commas"
    )
    parser.add_argument("--executor", choices=list(EXECUTORS), help="do parts in processes of their own, there")
    parser.add_argument("--jobs", type=int, metavar="N", help="with local, which it implies: N parts at a time [1]")
    parser.add_argument("--show-texts", action="store_true", help="the report shows the most exposed texts as they are")


def run(args: argparse.Namespace) -> int:
    """Runs the study, says what came out and where the page is; 1 where a student failed."""
    from midistill_tasks.study.run import load_study, run_study

    study = load_study(args.recipe, args.set)
    if args.dry_run:
        from midistill_tasks.study.plan import plan

        with TemporaryDirectory() as scratch, logged(Path(scratch)):  # keeps what libraries say away from people
            said = plan(study)
        print(said)
        return 0
    with logged(_logs(study.output, args.only)):
        outcome = run_study(study, args.only, args.show_texts, _elsewhere(args))
    return say(outcome)


def _logs(output: str, only: str | None) -> Path:
    """The study's folder, or the one that an executor has made for the logs of this part."""
    from midistill_tasks.study.executors.units import logs_folder

    folder = logs_folder(output, only) if only else None
    with writing(f"output: {output}"):
        return folder if folder and folder.is_dir() else Path(output)


def _elsewhere(args: argparse.Namespace) -> Elsewhere | None:
    if args.executor is None and args.jobs is None:
        return None
    if args.only is not None:
        raise InputError("--only: does one part, here: leave --executor and --jobs out")
    from midistill_tasks.study.executors import make_executor
    from midistill_tasks.study.executors.drive import drive
    from midistill_tasks.study.executors.units import kept_recipe

    executor = make_executor(args.executor or "local", args.jobs)
    return lambda work, left: drive(executor, work, left, kept_recipe(work.study))


def say(outcome: Outcome) -> int:
    """Prints what came out, where the page is and what failed; returns the exit status."""
    if outcome.page and outcome.file:
        print(f"{outcome.page.summary}\nThe page: {outcome.file.resolve()}")
    for part, reason in outcome.failed.items():
        print(f"failed: {part}, {reason}")
    return int(bool(outcome.failed))
