"""`midistill report`: the page, from what the harness wrote."""

from __future__ import annotations

import argparse

HELP = "one self-contained page (and Markdown and CSV) from the results of MIA tasks"
EPILOG = """\
examples:
  midistill report results/                               all models under a folder, side by side
  midistill report results/ --teacher pythia-160m         the others against this one
  midistill report results/teacher vanilla=results/v0 vanilla=results/v1 --teacher results/teacher
                                                          students of one name differ by their seed only
  midistill report study-bios/                            a study knows its teacher and its arms
  midistill report results/ --json                        report.json beside the page (`midistill schema report`)
The runs need --output_path and --log_samples. Texts are masked unless --show-texts is given.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("results", metavar="[NAME=]RESULTS", nargs="+", help="folders or results_*.json of lm_eval")
    parser.add_argument("--teacher", help="the model that the others are compared with: its name or folder")
    parser.add_argument("--utility", metavar="TASK/METRIC", help="of the chart of privacy and utility")
    parser.add_argument("--show-texts", action="store_true", help="show the most exposed texts as they are")
    parser.add_argument("--json", action="store_true", help="write report.json as well: answers, figures and tables")
    parser.add_argument("--output", default="report", help="folder to write to (default: report)")


def run(args: argparse.Namespace) -> int:
    """Writes the page and says where it is."""
    from pathlib import Path

    from midistill_tasks.locks import held
    from midistill_tasks.report.build import build, write
    from midistill_tasks.report.machine import keep_json
    from midistill_tasks.results.roles import read_group

    with held(Path(args.output), "--output"):
        group = read_group(args.results, args.teacher)
        page = build(group, args.show_texts, args.utility)
        print(f"{page.summary}\n\nThe page: {write(page, Path(args.output)).resolve()}")
        if file := keep_json(page, group, Path(args.output), args.json):
            print(f"For programs: {file.resolve()}")
    return 0
