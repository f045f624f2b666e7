"""`midistill export`: a student as a model of its stock architecture."""

from __future__ import annotations

import argparse

EPILOG = """\
What is written loads without midistill. It is what a student folds into that was trained with `interventions.foldable:
true` (a bottleneck without its GELU, norms without bias); it is refused, with the reason, everywhere else.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("student", help="folder that `midistill distill` wrote")
    parser.add_argument("--plain", action="store_true", required=True, help="as its stock architecture")
    parser.add_argument("--output", required=True, help="folder to write")


def run(args: argparse.Namespace) -> int:
    """Folds, compares and writes."""
    from pathlib import Path

    from transformers import AutoModelForCausalLM

    from midistill_tasks.locks import held
    from midistill_tasks.models.architectures import register
    from midistill_tasks.models.export import export_plain
    from midistill_tasks.models.loading import from_pretrained, load_tokenizer

    register()
    with held(Path(args.output), "--output"):
        student = from_pretrained(AutoModelForCausalLM, args.student, "student")
        export_plain(student, load_tokenizer(args.student, "student"), args.output)
    print(f"{args.output}: a stock {type(student).__mro__[1].__name__}, checked against the student")
    return 0
