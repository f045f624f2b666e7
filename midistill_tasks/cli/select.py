"""`midistill select`: divides the members by whether an attack on the teacher finds them."""

from __future__ import annotations

import argparse

HELP = "which members an attack on the teacher finds: writes vulnerable.jsonl and non_vulnerable.jsonl"
EPILOG = """\
the samples come from a run such as
  lm_eval --model hf --model_args pretrained=TEACHER --tasks mia_loss_files,mia_mink_files \\
    --metadata '{"mia": {"members": "a.jsonl", "nonmembers": "b.jsonl"}}' --log_samples --output_path results
then
  midistill select results --attack mink --output selection
  midistill distill recipe.yaml --set interventions='{selection: selection, non_vulnerable: true}'
Each member is judged by a threshold chosen on the other half of the texts.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("samples", nargs="+", help="samples_mia_*.jsonl of the teacher, or folders that hold them")
    parser.add_argument("--attack", action="append", help="use this attack (may be repeated); default: all found")
    parser.add_argument(
        "--vote",
        choices=["any", "majority", "all"],
        default="majority",
        help="with several attacks: how many must call a text a member (default: majority, more than half)",
    )
    parser.add_argument("--output", required=True, help="folder to write to")


def run(args: argparse.Namespace) -> int:
    """Writes the selection and prints the counts."""
    from pathlib import Path

    from midistill_tasks.distill.selection import choose_attacks, select, weak, write_selection
    from midistill_tasks.errors import warn_once
    from midistill_tasks.locks import held
    from midistill_tasks.results.reader import read_attacks
    from midistill_tasks.results.table import shown

    results = choose_attacks(read_attacks(args.samples), args.attack)
    selection = select(results, args.vote)
    sources = {attack: str(result.path) for attack, result in results.items()}
    with held(Path(args.output), "--output"):
        write_selection(selection, Path(args.output), {"vote": args.vote, "samples": sources})
    labels = next(iter(results.values())).labels
    for reason in filter(None, map(weak, results.values())):
        warn_once(reason)
    sides = f"{f'of {labels.sum()} members':>18} {f'of {(~labels).sum()} non-members':>20}"
    print(f"{'called members':<20} {sides}   balanced accuracy")
    for name, counts in selection.called.items():
        accuracy = f"   {shown(results[name].intervals['balanced_acc'])}" if name in results else ""
        unscored = f"   ({counts['without_score']} without a score)" if counts["without_score"] else ""
        print(f"{name:<20} {counts['members']:>18} {counts['nonmembers']:>20}{accuracy}{unscored}")
    print(
        f"{args.output}: {len(selection.vulnerable)} vulnerable, {len(selection.non_vulnerable)} non-vulnerable members"
    )
    return 0
