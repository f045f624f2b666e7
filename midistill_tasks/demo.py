"""``midistill demo``: the whole way on a model that is trained on the spot, without a network."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

EPOCHS = 8
OTHER_PEOPLE = 7
"""Seed of a second population of the same distribution: the control model's texts, and the tokenizer's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--output", type=Path, help="keep the two models in this folder (a temporary one otherwise)")


def run(args: argparse.Namespace) -> int:
    """Trains two small models, evaluates both with `lm_eval` and prints the tables."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if args.output is not None:
        return _run(args.output)
    with tempfile.TemporaryDirectory(prefix="midistill-demo-") as folder:
        return _run(Path(folder))


def _run(folder: Path) -> int:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    from midistill_tasks.harness import yaml_folder
    from midistill_tasks.splits.bios import biographies, members

    start = time.monotonic()
    others = biographies(people=1000, seed=OTHER_PEOPLE)
    trained, control = folder / "trained-on-members", folder / "control"
    print("1. A small model is trained on the members of mia_bios: synthetic biographies …")
    _train(members(), others, trained)
    print("2. A control is trained in the same way on other people, who are nobody in mia_bios …")
    _train(others[: len(others) // 2], others, control)
    print("3. lm_eval runs the attacks and a utility task (perplexity on the non-members) on both …")
    tables = []
    for model, options in ((trained, {"reference": str(control)}), (control, {})):
        # The harness's own 14,000 tasks, which take a while to index, have nothing to do here.
        manager = TaskManager(include_defaults=False, include_path=str(yaml_folder()), metadata={"mia": options})
        results = simple_evaluate(
            model="hf",
            model_args={"pretrained": str(model), "dtype": "float32"},
            tasks=["mia_bios", "heldout_bios"],
            batch_size=16,
            device="cpu",
            task_manager=manager,
            log_samples=False,
        )
        tables.append(make_table(results))
    print(f"\nTrained on the members:\n\n{tables[0]}\nControl, which never saw them:\n\n{tables[1]}")
    print("AUROC is the chance that a member scores above a non-member: 0.5 is no leak, 1 is a full one.")
    print(f"Took {time.monotonic() - start:.0f} s.")
    return 0


def _train(texts: list[str], tokenizer_texts: list[str], folder: Path) -> None:
    """A GPT-2 of two layers from nothing; the tokenizer knows neither members nor non-members."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    from midistill_tasks.distill.fine_tune import train_tokenizer
    from midistill_tasks.distill.loader import Collator, TextDataset

    tokenizer = train_tokenizer(tokenizer_texts, 1024)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=512, n_embd=128, n_layer=2, n_head=4)
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    model = GPT2LMHeadModel(config)
    arguments = TrainingArguments(
        output_dir=str(folder / "training"),
        num_train_epochs=EPOCHS,
        learning_rate=3e-3,
        per_device_train_batch_size=8,
        seed=0,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    ids = [tokenizer.encode(text) for text in texts]
    Trainer(model=model, args=arguments, train_dataset=TextDataset(ids), data_collator=Collator()).train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
