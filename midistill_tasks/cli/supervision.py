"""`midistill supervision`: how much the teacher's soft targets repeat the texts themselves."""

from __future__ import annotations

import argparse
from typing import Any

HELP = "how often the teacher's arg-max is the true token, and what the student makes of it"
EPILOG = """\
The samples are the teacher's: `lm_eval --tasks mia_loss_…,mia_ref_… --log_samples --output_path results`. Members are
vulnerable where an attack calls them members (thresholds cross-fitted). By likelihood alone the claim is true by
construction: look at the matched rows (non-members of the same loss under the teacher), and at vulnerability by ref.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("samples", nargs="+", help="samples_mia_*.jsonl of the teacher, or folders that hold them")
    parser.add_argument("--teacher", required=True, help="hub id or folder")
    parser.add_argument("--student", required=True, help="hub id or folder")
    parser.add_argument("--attack", action="append", help="may be repeated; default: all found")
    parser.add_argument("--max-length", type=int, default=128, help="tokens kept of a text (default 128)")
    parser.add_argument("--output", required=True, help="JSON file to write")


def run(args: argparse.Namespace) -> int:
    """Prints the table and stores it."""
    import json
    from pathlib import Path

    from midistill_tasks.errors import InputError
    from midistill_tasks.files import write_atomically
    from midistill_tasks.locks import held_beside

    output = Path(args.output)
    with held_beside(output, "--output"):
        if output.exists():
            raise InputError(f"--output {output} exists: give another file")
        stored = _measured(args)
        write_atomically(output, json.dumps(stored, indent=2) + "\n")
    print(f"stored in {output}")
    return 0


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    """Prints the table; what is stored of it."""
    from transformers import AutoModelForCausalLM

    from midistill_tasks.compare.supervision import as_json, as_table, by_vulnerability
    from midistill_tasks.distill.data import encode
    from midistill_tasks.distill.selection import called_members, choose_attacks
    from midistill_tasks.distill.supervision import text_figures
    from midistill_tasks.models.architectures import register
    from midistill_tasks.models.loading import check_same_tokenizer, from_pretrained, load_tokenizer
    from midistill_tasks.results.reader import read_attacks

    results = choose_attacks(read_attacks(args.samples), args.attack)
    first = next(iter(results.values()))
    register()
    tokenizer = load_tokenizer(args.teacher, "--teacher")
    texts = list(first.texts.values())
    check_same_tokenizer(tokenizer, load_tokenizer(args.student, "--student"), texts)
    teacher = from_pretrained(AutoModelForCausalLM, args.teacher, "--teacher")
    student = from_pretrained(AutoModelForCausalLM, args.student, "--student")
    encoded = encode(texts, tokenizer, args.max_length)
    items = [first.by_id[name] for name in first.texts]
    kept = [items[position] for position in encoded.positions]
    figures = text_figures(teacher, student, kept, encoded.ids)
    tables = by_vulnerability(figures, {attack: called_members(result) for attack, result in results.items()})
    print(as_table(tables))
    return {"teacher": args.teacher, "student": args.student, "tables": as_json(tables)}
