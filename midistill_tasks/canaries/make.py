"""Makes canaries: texts, a group of repeats for each, and a fair coin for each that says whether it is inserted."""

from __future__ import annotations

import hashlib
import json
import platform
import random
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from midistill_tasks import __version__
from midistill_tasks.canaries import kinds
from midistill_tasks.canaries.verify import Index
from midistill_tasks.errors import InputError, nearest
from midistill_tasks.files import whole_folder
from midistill_tasks.locks import held_beside
from midistill_tasks.metrics.epsilon import FEWEST
from midistill_tasks.splits.canaries import HELD_OUT, INSERTED, PLAN, Canary, Plan, Tokenizer
from midistill_tasks.splits.readers import pick_texts
from midistill_tasks.splits.sources import read_source

KINDS = {
    "bios": "made-up people, each with address, telephone and account",
    "random": "words of a dictionary in an order that means nothing",
    "rare": "an ordinary beginning that ends in a token next to never used: the strongest (needs --like, --tokenizer)",
    "like": "words of your own texts, recombined so that none of these stands in it whole (needs --like)",
}
USES_LIKE = ("rare", "like")
LEAST = FEWEST + 10
"""Canaries, and canaries of a group, from which on there is an ε: some are taken out as shots."""


@dataclass(frozen=True)
class Wanted:
    """What to make: the options of the command line.

    Attributes:
        seed: None = one that the operating system draws; it is written down.
        like: files (folders, globs …) of the user's texts.
    """

    n: int = 1000
    kind: str = "bios"
    repeats: tuple[int, ...] = (1,)
    seed: int | None = None
    column: str = "text"
    like: tuple[str, ...] = ()
    tokenizer: str | None = None


def make(wanted: Wanted, folder: Path) -> Plan:
    """Writes the folder of canaries, whole or not at all.

    Raises:
        InputError: an option is wrong or missing, the folder is there already or cannot be written, or the texts of
            `like` do not do.
    """
    _check(wanted)
    if folder.exists():
        raise InputError(f"--output: '{folder}' is there, and a model may be trained on it; give another folder")
    seed = secrets.randbelow(2**32) if wanted.seed is None else wanted.seed
    like = dict(_like(wanted))
    texts, tokenizer = _texts(wanted, seed, [text for of_file in like.values() for text in of_file])
    groups = [wanted.repeats[number % len(wanted.repeats)] for number in range(wanted.n)]
    random.Random(f"groups {seed}").shuffle(groups)
    names = (f"canary-{number:0{len(str(wanted.n - 1))}d}" for number in range(wanted.n))
    canaries = [Canary(*row) for row in zip(names, texts, groups, strict=True)]
    coins = toss(wanted.n, seed)
    inserted = [canary for canary, coin in zip(canaries, coins, strict=True) if coin for _ in range(canary.repeats)]
    held_out = [canary for canary, coin in zip(canaries, coins, strict=True) if not coin]
    contents = {name: _lines(side, wanted, seed) for name, side in ((INSERTED, inserted), (HELD_OUT, held_out))}
    plan = Plan(
        kind=wanted.kind,
        n=wanted.n,
        repeats=list(wanted.repeats),
        seed=seed,
        column=wanted.column,
        like={where: _sha256(json.dumps(of_file).encode()) for where, of_file in like.items()},
        tokenizer=tokenizer,
        groups=_groups(wanted.repeats, canaries, coins),
        files={name: _sha256(content) for name, content in contents.items()},
        versions=_versions(),
    )
    with held_beside(folder, "--output"), whole_folder(folder, "--output") as unfinished:
        for name, content in {**contents, PLAN: f"{plan.model_dump_json(indent=2)}\n".encode()}.items():
            (unfinished / name).write_bytes(content)
    return plan


def toss(n: int, seed: int) -> list[bool]:
    """A fair coin each: whether a canary is inserted. Their generator is their own: it knows no text and no group."""
    coins = random.Random(f"coins {seed}")
    return [coins.random() < 0.5 for _ in range(n)]


def _check(wanted: Wanted) -> None:
    if wanted.kind not in KINDS:
        raise InputError(f"--kind: there is no '{wanted.kind}'{nearest(wanted.kind, KINDS)}; kinds: {', '.join(KINDS)}")
    if wanted.n < LEAST:
        raise InputError(f"--n is {wanted.n}; give {LEAST} canaries or more, below which no ε can be bounded")
    if not wanted.repeats or min(wanted.repeats) < 1 or len(set(wanted.repeats)) < len(wanted.repeats):
        raise InputError("--repeats takes different whole numbers from 1 on, such as 1,4,16")
    if wanted.column in ("id", "group"):
        raise InputError(
            f"--column: '{wanted.column}' is what a canary's own column is called; name the text's otherwise"
        )
    for name, given, kinds_ in (("like", wanted.like, USES_LIKE), ("tokenizer", wanted.tokenizer, ("rare",))):
        if wanted.kind in kinds_ and not given:
            example = {"like": "--like train.jsonl", "tokenizer": "--tokenizer MODEL, that of the model to be trained"}
            raise InputError(f"--kind {wanted.kind} needs --{name}: add {example[name]}")
        if given and wanted.kind not in kinds_:
            raise InputError(
                f"--{name} is not used by --kind {wanted.kind}; leave it out, or take {' or '.join(kinds_)}"
            )


def _like(wanted: Wanted) -> Iterator[tuple[str, list[str]]]:
    """The user's own files and their texts."""
    for source in tqdm(wanted.like, "reading", unit="source", disable=None):
        for where, rows in read_source(source):
            yield where, pick_texts(rows, wanted.column, where)


def _texts(wanted: Wanted, seed: int, like: Sequence[str]) -> tuple[list[str], Tokenizer | None]:
    """n different texts of the kind, and of kind `rare` what their last tokens are."""
    rng = random.Random(f"texts {seed}")
    if wanted.kind == "bios":
        return _apart(kinds.people(seed, wanted.n), wanted.n), None
    if wanted.kind == "random":
        return _apart(kinds.random_words(rng), wanted.n), None
    beginnings = kinds.Recombined(like, rng)
    if wanted.kind == "like":
        return _apart(beginnings, wanted.n, like), None
    from midistill_tasks.canaries.rare import Rare  # torch and transformers

    rare = Rare(str(wanted.tokenizer), like, beginnings, rng)
    return _apart(rare, wanted.n, like), rare.about()


def _apart(stream: Iterable[str], n: int, own: Sequence[str] = ()) -> list[str]:
    """The first n different ones, but those that stand within another or within a text of the user's: a coin of each
    decides alone whether its text is trained on."""
    candidates = islice(stream, kinds.TRIES * n)
    found: dict[str, None] = {}
    with tqdm(total=n, desc="making canaries", unit="canary", disable=None) as bar:
        for text in candidates:
            found[text] = None
            if len(found) == n:
                for inside in _within(found, own):
                    del found[inside]
            bar.update(len(found) - bar.n)
            if len(found) == n:
                return list(found)
    raise InputError(
        f"only {len(found)} different canaries of {n} can be made of these texts; give more texts or less --n"
    )


def _within(texts: Iterable[str], own: Sequence[str]) -> set[str]:
    """Which of the texts stand within another one or within one of the user's."""
    canaries = [Canary("", text, 1) for text in texts]
    index = Index(canaries)
    in_others = {found.text for canary in canaries for found in index.within(canary.text) if found.text != canary.text}
    return in_others | {found.text for text in own for found in index.within(text)}


def _lines(canaries: Sequence[Canary], wanted: Wanted, seed: int) -> bytes:
    """JSON lines, in an order of their own, so that no reader sees one's repeats in a row."""
    listed = list(canaries)
    random.Random(f"order {seed}").shuffle(listed)
    rows = ({wanted.column: canary.text, "id": canary.id, "group": canary.repeats} for canary in listed)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _groups(repeats: Sequence[int], canaries: Sequence[Canary], coins: Sequence[bool]) -> dict[str, dict[str, int]]:
    sizes = Counter((canary.repeats, coin) for canary, coin in zip(canaries, coins, strict=True))
    return {str(often): {"inserted": sizes[often, True], "held_out": sizes[often, False]} for often in repeats}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _versions() -> dict[str, str]:
    libraries = ("faker", "tokenizers", "transformers")
    return {
        "midistill": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }
