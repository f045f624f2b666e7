"""`midistill check`: what a run would leave out, cut or not be able to say, before it costs anything."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from midistill_tasks.harness.options import Options
    from midistill_tasks.splits.documents import Documents

HELP = "what an audit would leave out, cut or be unable to say; reads texts and the model's configuration, no weights"
EPILOG = """\
examples:
  midistill check --members train.jsonl --nonmembers held_out.jsonl
  midistill check --members train.jsonl --nonmembers held_out.jsonl --model ./my-model
  midistill check --metadata '{"mia": {"members": "a.csv", "nonmembers": "b.csv", "column": "body"}}'
  midistill check --split wikitext --model EleutherAI/pythia-160m
"""
SHOWN = 10
"""Members that are named here; the page's exposed-….csv names all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = HELP, EPILOG
    parser.add_argument("--members", help="texts that the model was trained on (see README, 'Your model')")
    parser.add_argument("--nonmembers", help="texts of the same kind that it was not trained on")
    parser.add_argument("--metadata", default="{}", metavar="JSON", help="as of lm_eval, with further options")
    parser.add_argument("--split", default="files", help="another split of `midistill tasks` (default: files)")
    parser.add_argument("--model", help="hub name or folder: how its tokenizer and length treat the texts")


def run(args: argparse.Namespace) -> int:
    """Prints what was found; 0 where a run would give figures."""
    from midistill_tasks.errors import InputError, nearest
    from midistill_tasks.harness.options import parse_options
    from midistill_tasks.splits import SPLITS
    from midistill_tasks.splits.documents import documents

    given = {key: value for key in ("members", "nonmembers") if (value := getattr(args, key)) is not None}
    options = parse_options({"mia": _metadata(args.metadata) | given})
    if args.split not in SPLITS:
        raise InputError(f"--split: there is no split '{args.split}'{nearest(args.split, SPLITS)}: {', '.join(SPLITS)}")
    split = SPLITS[args.split]
    found = documents(split, options.of_split(split))
    for line in (*_texts(found), *_figures(found), *_words(found)):
        print(line)
    for line in _model(args.model, found, options) if args.model else ():
        print(line)
    return 0


def _metadata(text: str) -> dict[str, Any]:
    import json

    from midistill_tasks.errors import InputError

    try:
        content = json.loads(text)
        return dict(content.get("mia", {}))
    except (ValueError, TypeError, AttributeError):
        raise InputError(f'--metadata {text!r} is no JSON object such as \'{{"mia": {{"n": 500}}}}\'') from None


def _texts(found: Documents) -> list[str]:
    counts = dict(found.counts)
    sides = [f"{counts.pop(side)} {name}" for side, name in (("members", "members"), ("nonmembers", "non-members"))]
    out = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count) or "none"
    lines = [f"judged: {sides[0]}, {sides[1]}; left out: {out}"]
    lines += [f"  not judged: {each.name}, {each.reason}" for each in found.left_out[:SHOWN]]
    more = len(found.left_out) - SHOWN
    return [*lines, *([f"  and {more} more members"] if more > 0 else [])]


def _figures(found: Documents) -> list[str]:
    """What so many texts allow to say."""
    from midistill_tasks.compare.wording import FEWEST
    from midistill_tasks.metrics.intervals import ENOUGH_DOCUMENTS
    from midistill_tasks.report.advice import ENOUGH

    fewest, others = min(found.counts["members"], found.counts["nonmembers"]), found.counts["nonmembers"]
    if fewest < FEWEST:
        return [f"too few texts: with {fewest} of a side nothing can be said; give at least 100"]
    lines = []
    if others < 100:
        lines.append("no rate at 1 % false accusations: it needs 100 non-members (200 for the row to publish)")
    elif others < ENOUGH:
        lines.append(f"the rate at 1 % false accusations has no interval: that needs {ENOUGH} non-members")
    clusters = Counter(dict(zip(found.docs["cluster"], found.docs["label"], strict=True)).values())
    if len(set(found.docs["cluster"])) < len(found.docs) and min(clusters.values()) < ENOUGH_DOCUMENTS:
        lines.append(f"the texts of a side come from {min(clusters.values())} documents only: errors will be wide")
    return lines


def _words(found: Documents) -> list[str]:
    """Whether words alone tell the sides apart, so that no attack can say what the model remembers."""
    import math

    from midistill_tasks.metrics.blind import blind_auroc

    value, stderr, _ = blind_auroc(found.docs["text"][:], found.docs["label"][:], found.docs["cluster"][:])
    if math.isnan(value):
        return ["words alone: too few texts to say whether they tell the sides apart"]
    said = f"words alone tell the sides apart with AUROC {value:.3f} ± {stderr:.3f}"
    if value - 2 * stderr <= 0.5:
        return [f"{said}: no more than chance, as it should be"]
    return [
        f"{said}: an attack must beat that to show anything; better take the non-members from the same source and time"
    ]


def _model(name: str, found: Documents, options: Options) -> list[str]:
    """How long the texts are for it."""
    from transformers import AutoConfig

    from midistill_tasks.models.loading import from_pretrained, load_tokenizer

    tokenizer = load_tokenizer(name, "--model")
    config: Any = from_pretrained(AutoConfig, name, "--model")
    config = config.get_text_config()
    length = next((getattr(config, key) for key in LENGTHS if getattr(config, key, None)), 2048)
    counts = [
        len(ids) for ids in tokenizer(found.docs["text"][:], add_special_tokens=False, verbose=False)["input_ids"]
    ]
    shots = [len(ids) for ids in tokenizer(list(found.shots), add_special_tokens=False, verbose=False)["input_ids"]]
    cut, short = sum(count > length for count in counts), sum(count < 2 for count in counts)
    lines = [
        f"{name} reads {length} tokens at once; the texts have {min(counts)} to {max(counts)}, {sum(counts):,} in all"
    ]
    lines += [f"  {cut} of {len(counts)} texts are longer: judged by their first {length} tokens"] if cut else []
    lines += [f"  {short} texts have one token or none, which is never scored"] if short else []
    if shots and shots[0] > length // 2:
        lines.append(f"  recall cannot run: the first shot has {shots[0]} tokens, more than half of the model's length")
    if options.run.reference is None:
        lines.append("  ref cannot run: no reference model is given")
    return lines


LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx")
"""Where the harness looks for a model's length, in its order."""
