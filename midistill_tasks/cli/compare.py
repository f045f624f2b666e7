"""`midistill compare`: a teacher and its students, from what the harness wrote about them."""

from __future__ import annotations

import argparse

HELP = "a teacher against its students: paired tests, matrices, agreement, and a verdict in plain words"
EPILOG = """\
evaluate each model in the same way, keeping the samples:
  for m in TEACHER STUDENT; do
    lm_eval --model hf --model_args pretrained=$m --tasks mia_bios,… --log_samples --output_path results/$m
  done
then
  midistill compare results/TEACHER results/STUDENT --output comparison
models of which none is the teacher, side by side:
  midistill compare --equals results/A results/B results/C
students that differ by their seed only get one name, and are judged together:
  midistill compare results/teacher vanilla=results/v0 vanilla=results/v1 nonorm=results/n0 nonorm=results/n1

how to read it
  A model leaks |AUROC − 0.5| of the strongest attack on it. A student is "safer" where the whole 95 % interval of the
  reduction lies above 0, "not safer" where it lies below 0.02, otherwise "undecided"; the interval allows for the
  choice among the attacks. One student says nothing of others trained in the same way: give several seeds for that.
  Texts are matched by id; runs on different texts or with different options are refused.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("teacher", metavar="[NAME=]TEACHER", help="folder (or results_*.json) that lm_eval wrote of it")
    parser.add_argument("students", metavar="[NAME=]STUDENT", nargs="+", help="the same; runs of one name are seeds")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--equals", action="store_true", help="none is the teacher: the models side by side, in pairs")
    kind.add_argument("--ensembles", action="store_true", help="also judge the students of a name as ensembles")
    parser.add_argument(
        "--output", metavar="FOLDER", help="write comparison.json, comparison.md and a CSV file a table"
    )


def run(args: argparse.Namespace) -> int:
    """Prints verdicts and tables, and writes them with --output."""
    from contextlib import nullcontext
    from pathlib import Path

    from midistill_tasks.errors import InputError
    from midistill_tasks.locks import held
    from midistill_tasks.report.comparison import assess, write
    from midistill_tasks.results.roles import named_place, read_group

    if args.equals:
        return _equals([args.teacher, *args.students], args.output)
    name, place = named_place(args.teacher)
    group = read_group([args.teacher, *args.students], name or place)
    arms = {entry.name: entry.runs for entry in group.arms}
    if args.ensembles and all(len(runs) == 1 for runs in arms.values()):
        raise InputError("--ensembles: no arm has several students: name them alike, as in v=results/v0 v=results/v1")
    with held(Path(args.output), "--output") if args.output else nullcontext():
        assessment = assess(group.teacher_run, arms, args.ensembles, group.failed)
        print(assessment.markdown, end="")
        if args.output:
            write(assessment, Path(args.output))
            print(f"\n{args.output}: comparison.json, comparison.md and a CSV file a table")
    return 0


def _equals(places: list[str], output: str | None) -> int:
    """The answer on each model, and paired differences; with --output what `midistill report --json` writes."""
    from contextlib import nullcontext
    from pathlib import Path

    from midistill_tasks.locks import held
    from midistill_tasks.report.build import build, write
    from midistill_tasks.report.machine import write_json
    from midistill_tasks.results.roles import read_group

    with held(Path(output), "--output") if output else nullcontext():
        group = read_group(places)
        page = build(group)
        print("\n\n".join([page.lead, *(f"{each.about}: {each.sentence}" for each in page.statements)]))
        for warning in page.warnings:
            print(f"\nwarning: {warning}")
        for table in page.tables:
            if table.name.startswith(("strongest-", "side-by-side-")):
                print(f"\n{table.markdown()}", end="")
        if output:
            write(page, Path(output))
            print(f"\n{write_json(page, group, Path(output))}, a page and a CSV file a table")
    return 0
