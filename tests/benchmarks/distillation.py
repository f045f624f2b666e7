"""Speed and memory of distillation, as ratios within one run.

    python tests/benchmarks/distillation.py [--quick] [--only trl [--rounds 3]]

Models are of random weights at the sizes of gpt2 and distilgpt2; texts are random tokens. Each ratio compares two
things that took turns in one process; the table gives the median of the rounds, and their range.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import Row, in_fresh_process, interleaved, machine, ratios, table
from loss_memory import memory_ratios
from transformers import GPT2Config, GPT2LMHeadModel, ProgressCallback, TrainerCallback

from midistill_tasks.distill.cache.store import Key, TeacherCache, write_cache
from midistill_tasks.distill.loader import Collator, TextDataset
from midistill_tasks.distill.trainer import DistillationTrainer
from midistill_tasks.recipes.schema import Data, Recipe, Student, Teacher, Train

TRL = "trl==1.16.0"
K = 128
"""Logits a token in the teacher's cache: a recipe's default."""


@dataclass(frozen=True)
class Size:
    """Of models, batches and the benchmark itself."""

    vocab: int = 50257
    width: int = 768
    layers: int = 6
    """Of the student; the teacher has twice as many."""
    large_layers: int = 17
    """Of the teacher with twice the student's parameters, head included."""
    texts: int = 8
    length: int = 128
    memory_length: int = 512
    rounds: int = 7
    trl_rounds: int = 3
    trl_steps: int = 4

    def model(self, layers: int) -> Any:
        """A GPT-2 without dropout."""
        torch.manual_seed(layers)
        sizes = {"vocab_size": self.vocab, "n_embd": self.width, "n_layer": layers, "n_head": self.width // 64}
        no_dropout = {"attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
        return GPT2LMHeadModel(GPT2Config(**sizes, **no_dropout, bos_token_id=0, eos_token_id=0))

    def describe(self) -> str:
        """For the reader of the table."""
        return (
            f"GPT-2 of width {self.width}, {self.layers} layers, vocabulary {self.vocab}, float32; teacher of"
            f" {2 * self.layers} layers, in the cache's row {self.large_layers} (twice the parameters); batches of"
            f" {self.texts} × {self.length} tokens, of {self.texts} × {self.memory_length} in the row of memory"
        )

    def teacher(self, layers: int) -> Any:
        """A frozen model."""
        return self.model(layers).eval().requires_grad_(False)

    def rows(self, batches: int = 1) -> list[list[int]]:
        """Token ids of whole batches."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.vocab, (batches * self.texts, self.length), generator=generator)
        return [row.tolist() for row in ids]


QUICK = Size(
    vocab=5000, width=64, layers=2, large_layers=10, texts=4, length=32, memory_length=2048,
    rounds=3, trl_rounds=1, trl_steps=2,
)  # fmt: skip


def make_trainer(size: Size, folder: Path, student: Any, teacher: Any, texts: TextDataset) -> DistillationTrainer:
    """Our trainer as a recipe makes it, its output switched off."""
    recipe = Recipe(
        output=str(folder),
        teacher=Teacher(model="given"),
        student=Student(config="given"),
        data=Data(members="given"),
        train=Train(epochs=1, batch_size=size.texts, learning_rate=1e-5, warmup_steps=0),
    )
    return quiet(DistillationTrainer(student, teacher, recipe, texts, size.vocab))


def quiet(trainer: Any) -> Any:
    """Without progress bar and checkpoints."""
    trainer.remove_callback(ProgressCallback)
    trainer.args.save_strategy = "no"
    return trainer


def step_ratios(size: Size, folder: Path, device: str = "cpu") -> list[float]:
    """Our loss and its backward / the teacher's forward and the student's forward and backward with plain CE."""
    student, teacher, rows = size.model(size.layers).to(device), size.teacher(2 * size.layers).to(device), size.rows()
    trainer = make_trainer(size, folder, student, teacher, TextDataset(rows))
    made = Collator()([trainer.train_dataset[position] for position in range(len(rows))])
    batch = {name: value.to(device) if hasattr(value, "to") else value for name, value in made.items()}
    tokens = {name: batch[name] for name in ("input_ids", "attention_mask")}

    def ours() -> None:
        student.zero_grad()
        trainer.compute_loss(student, batch).backward()
        wait()

    def plain() -> None:
        student.zero_grad()
        with torch.no_grad():
            teacher(**tokens, use_cache=False)
        student(**tokens, labels=batch["labels"], use_cache=False).loss.backward()
        wait()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    seconds = interleaved({"ours": ours, "plain": plain}, size.rounds)
    return ratios(seconds["ours"], seconds["plain"])


def cache_ratios(size: Size, folder: Path) -> list[float]:
    """A student's whole step (read, loss, backward, AdamW) from the teacher's cache / with the teacher run."""
    student, teacher, rows = size.model(size.layers), size.teacher(size.large_layers), size.rows()
    key = Key("", "", "", size.vocab, 2.0, K, size.length, bits=8)
    cache = TeacherCache(write_cache(folder, key, teacher, rows), [size.length] * len(rows), key)
    trainers = {
        "cached": make_trainer(size, folder, student, None, TextDataset(rows, cache, range(len(rows)))),
        "online": make_trainer(size, folder, student, teacher, TextDataset(rows)),
    }
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5)

    def step_of(trainer: DistillationTrainer) -> Callable[[], None]:
        def step() -> None:
            batch = Collator()([trainer.train_dataset[position] for position in range(len(rows))])
            trainer.compute_loss(student, batch).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    seconds = interleaved({name: step_of(trainer) for name, trainer in trainers.items()}, size.rounds)
    return ratios(seconds["cached"], seconds["online"])


def trl_ratios(size: Size, folder: Path) -> list[float] | str:
    """Tokens a second of CPU time, ours / those of TRL's trainer; that is installed, by pip and without what it depends
    on, into a folder that only its process sees, so that it changes no version here."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), TRL]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return f"{TRL} cannot be had ({done.stderr.strip().splitlines()[-1]})"
    return in_fresh_process(against_trl, size, folder)


def against_trl(size: Size, installed: Path) -> list[float]:
    """Runs short trainings of both in turn, of the same models, texts, optimizer and precision.

    Timed is from the end of the first step to that of the last: batches, losses, optimizer, the trainers' own work, in
    CPU time of the process, which others on the machine disturb less than the wall's. TRL's loss is forward KL (beta 0)
    with nothing on-policy (lmbda 0) and no cross-entropy; ours has that beside it.
    """
    sys.path.append(str(installed))
    folder = installed.with_name("output")
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    student, teacher = size.model(size.layers), size.teacher(2 * size.layers)
    rows = size.rows(1 + size.trl_steps)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<eos>": 0}, "<eos>")))
    tokenizer.eos_token = tokenizer.pad_token = "<eos>"
    texts = Dataset.from_dict({"ids": rows, "blank": [False] * len(rows)})

    def ours() -> Any:
        return make_trainer(size, folder, student, teacher, TextDataset(rows))

    settings = ours().args
    names = (
        "output_dir num_train_epochs per_device_train_batch_size learning_rate weight_decay lr_scheduler_type"
        " max_grad_norm optim report_to use_cpu dataloader_pin_memory logging_steps"
    )
    same = {name: getattr(settings, name) for name in names.split()}

    def theirs() -> Any:
        arguments = GKDConfig(**same, lmbda=0.0, beta=0.0, bf16=False, gradient_checkpointing=False)
        trainer = GKDTrainer(student, teacher, arguments, Collator(), train_dataset=texts, processing_class=tokenizer)
        return quiet(trainer)

    seconds: dict[Any, list[float]] = {ours: [], theirs: []}
    for number in range(size.trl_rounds):
        for make in list(seconds)[:: 1 if number % 2 else -1]:
            clock = Clock()
            trainer = make()
            trainer.add_callback(clock)
            trainer.train()
            seconds[make].append(clock.ends[-1] - clock.ends[0])
    return ratios(seconds[theirs], seconds[ours])  # the tokens are the same


class Clock(TrainerCallback):  # type: ignore[misc]
    """Notes this process's CPU time at the end of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.process_time())


def measure(size: Size, scratch: Path, only_trl: bool) -> Iterator[Row]:
    """The rows, one after the other."""
    step = "one step / (teacher forward + student forward and backward with plain CE)"
    memory = "peak memory of the loss / plain full-logits KL"
    cache = f"a student's step from the teacher cache (k {K}) / with the teacher run each time (teacher 2 × student)"
    if only_trl:
        yield trl_row(size, scratch)
        return
    yield Row(step, "≤ 1.10", "≤ 1.03", step_ratios(size, scratch / "output"))
    yield Row(memory, "≤ 0.5", "≤ 0.25", memory_ratios(size.vocab, size.width, size.texts, size.memory_length))
    yield Row(cache, "≤ 0.75", "≤ 0.65", cache_ratios(size, scratch / "cache"))
    yield trl_row(size, scratch)


def trl_row(size: Size, scratch: Path) -> Row:
    """Beside TRL."""
    what = f"tokens a second of CPU time / {TRL} `experimental.gkd` with `lmbda=0`, `beta=0`"
    return Row(what, "≥ 1.0", "≥ 1.2", trl_ratios(size, scratch / "trl"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; the figures mean nothing"
    )
    parser.add_argument("--only", choices=("trl",), help="this row alone")
    parser.add_argument("--rounds", type=int, help="of that row")
    args = parser.parse_args()
    size = QUICK if args.quick else Size()
    if args.rounds:
        size = replace(size, trl_rounds=args.rounds)
    print(f"{size.describe()}  \n{machine()}\n", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for line in table(measure(size, Path(scratch), args.only == "trl")):
            print(line, flush=True)
    print(f"\nload average at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
