"""What the teacher writes, to distil on: the student sees none of the texts that its membership is asked about.

Source: Kim & Rush, "Sequence-Level Knowledge Distillation" (EMNLP 2016), with samples in place of the beam's best.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from midistill_tasks.distill.data import Texts, distinct, fingerprint, other_texts
from midistill_tasks.distill.sampling.sample import sample, seed_of
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.models.batching import pad
from midistill_tasks.models.loading import positions_of
from midistill_tasks.processes import processes
from midistill_tasks.recipes.data import GenerateFrom
from midistill_tasks.recipes.schema import Data

BATCH = 32
"""Texts that are written at once, and kept in one file: fixed, since it decides which draws a text gets."""
RUN = 13
"""Words in a row that count as copied from a member, as for contamination by Brown et al. (GPT-3, 2020)."""


@dataclass(frozen=True)
class Key:
    """What the texts depend on; those of different keys stand side by side in one folder."""

    teacher: str
    tokenizer: str
    beginnings: str
    n: int
    temperature: float
    seed: int
    max_length: int

    @property
    def name(self) -> str:
        """Of the sub-folder."""
        return fingerprint(asdict(self))[:16]


def written_texts(
    data: Data, texts: Texts, teacher: Any, tokenizer: PreTrainedTokenizerBase, hashes: Mapping[str, str]
) -> tuple[list[str], dict[str, int]]:
    """The texts, written now or found again, and what was left out of them.

    Args:
        data: its ``generate_from``, ``max_length`` and ``column``.
        texts: of the split; how many of them, and long runs of how many members, the teacher writes is counted.
        teacher: on its device.
        tokenizer: the teacher's.
        hashes: of ``teacher`` and ``tokenizer``.

    Raises:
        InputError: there is nothing to begin with, nothing is left, or the disk is full.
    """
    own = _asked(data)
    prompts, left_out = _prompts(data, texts, teacher, tokenizer)
    key = _key(data, texts, prompts, hashes)
    folder = Path(own.folder) / key.name
    _write(folder, key, teacher, tokenizer, prompts)
    given = [text for number in range(_files(key.n)) for text in json.loads(_file(folder, number).read_text("utf-8"))]
    kept, counts = _kept(given, texts)
    if not kept:
        raise InputError(
            f"data.generate_from: all {key.n} texts that the teacher wrote are blank: give another seed, more texts,"
            " or 'beginnings'"
        )
    return kept, {**left_out, **counts}


def stand_in(data: Data, texts: Texts, teacher: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], float]:
    """For a forecast: as many texts, as long as the members, and the seconds to write them, by one batch."""
    prompts, _ = _prompts(data, texts, teacher, tokenizer)
    key = _key(data, texts, prompts, {"teacher": "", "tokenizer": ""})
    begun = time.perf_counter()
    _batch(key, teacher, tokenizer, prompts, 0)
    seconds = (time.perf_counter() - begun) * key.n / min(key.n, BATCH)
    return [texts.members[number % len(texts.members)] for number in range(key.n)], seconds


def _asked(data: Data) -> GenerateFrom:
    assert data.generate_from is not None  # noqa: S101 (asked by the caller)
    return data.generate_from


def _key(data: Data, texts: Texts, prompts: list[list[int]], hashes: Mapping[str, str]) -> Key:
    own = _asked(data)
    return Key(
        teacher=hashes["teacher"],
        tokenizer=hashes["tokenizer"],
        beginnings=fingerprint(prompts),
        n=own.n or len(texts.members),
        temperature=own.temperature,
        seed=own.seed,
        max_length=data.max_length,
    )


def _prompts(
    data: Data, texts: Texts, teacher: Any, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[list[int]], dict[str, int]]:
    """Token ids that the texts begin with, in turn; what was left out of the beginnings."""
    own = _asked(data)
    if own.beginnings is None:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise InputError(
                "data.generate_from: the teacher's tokenizer has no beginning-of-text token to begin with: give "
                "'beginnings', a file of other texts"
            )
        return [[start]], {}
    others, left_out = other_texts(own.beginnings, data.column, texts, "generate_from.beginnings")
    encoded = tokenizer(others, truncation=False, verbose=False)["input_ids"]
    prompts, most = [ids[: own.tokens] for ids in encoded], _length(data.max_length, teacher)
    if (longest := max(map(len, prompts))) >= most:
        raise InputError(
            f"data.generate_from.tokens: a beginning of {longest} tokens leaves the teacher nothing to write, since a"
            f" text has at most {most} (data.max_length, or the teacher's positions): set it below {most}"
        )
    return prompts, left_out


def _length(max_length: int, teacher: Any) -> int:
    """Tokens of a text, its beginning among them."""
    return min(max_length, positions_of(teacher.config) or max_length)


def _write(folder: Path, key: Key, teacher: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]]) -> None:
    """What is missing; a run that was killed goes on at the first missing file. Each process writes its share."""
    rank, ranks = processes().process_index, processes().num_processes
    then = "; what the teacher has written is kept"
    if rank == 0:
        write_atomically(folder / "key.json", json.dumps(asdict(key), indent=2) + "\n", then)
    todo = [number for number in range(rank, _files(key.n), ranks) if not _file(folder, number).is_file()]
    for number in tqdm(todo, desc="the teacher writes", unit="batch", disable=rank != 0 or not todo):
        texts = _batch(key, teacher, tokenizer, prompts, number)
        write_atomically(_file(folder, number), json.dumps(texts, ensure_ascii=False, indent=0) + "\n", then)
    processes().wait_for_everyone()


def _batch(
    key: Key, teacher: Any, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], number: int
) -> list[str]:
    chosen = [prompts[at % len(prompts)] for at in range(number * BATCH, min(key.n, (number + 1) * BATCH))]
    # Padded on the left: on the right, back to front.
    backwards = pad([row[::-1] for row in chosen], 0)
    prompt, mask = (backwards[name].flip(1).to(teacher.device) for name in ("input_ids", "attention_mask"))
    written = sample(
        teacher,
        prompt,
        mask,
        length=_length(key.max_length, teacher),
        n_tokens=len(tokenizer),
        seed=seed_of(key.seed, number),
        temperature=key.temperature,
        end=tokenizer.eos_token_id,
    )
    rows = (row[mask.shape[1] - len(own) :] for row, own in zip(written, chosen, strict=True))
    return [tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in rows]


def _kept(given: Sequence[str], texts: Texts) -> tuple[list[str], dict[str, int]]:
    """Nothing is left out by what the members are: then a teacher's DP holds for the student, too."""
    kept = distinct(given)
    runs = {run for text in (*texts.members, *texts.undrawn) for run in _runs(text)}
    empty = sum(not text.strip() for text in given)
    return kept, {
        "written": len(given),
        "written_empty": empty,
        "written_duplicates": len(given) - empty - len(kept),
        "written_shared": sum(text in texts.of_split for text in kept),
        "written_copying": sum(any(run in runs for run in _runs(text)) for text in kept),
    }


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = text.split()
    return (tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1))


def _files(n: int) -> int:
    return -(-n // BATCH)


def _file(folder: Path, number: int) -> Path:
    return folder / f"texts-{number:06d}.json"
