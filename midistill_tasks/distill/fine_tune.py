"""Trains a teacher on the members, once for all students that share its folder."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, TrainingArguments

from midistill_tasks.distill.callbacks.progress import show
from midistill_tasks.distill.data import Encoded, Texts, encode, fingerprint
from midistill_tasks.distill.dp.accounting import check_ready
from midistill_tasks.distill.dp.guarantee import MADE
from midistill_tasks.distill.dp.trainer import DPTrainer
from midistill_tasks.distill.loader import Collator, TextDataset
from midistill_tasks.distill.student import check_lengths
from midistill_tasks.errors import InputError
from midistill_tasks.files import whole_folder, writing
from midistill_tasks.locks import held_beside
from midistill_tasks.models.loading import (
    check_vocabulary,
    config_from_dict,
    from_pretrained,
    load_tokenizer,
)
from midistill_tasks.models.sharded import refuse_under_fsdp
from midistill_tasks.processes import by_first, from_first, processes, use_cpu
from midistill_tasks.recipes.schema import DP, Data, FineTune, Student, Teacher

VOCABULARY = 1024
"""Tokens of a tokenizer made for a teacher from nothing, unless its config says otherwise."""
AT_ONCE = 8
"""Texts of which a DP training holds the gradients at once; each is as large as the model."""


def fine_tuned_teacher(
    teacher: Teacher, fine_tune: FineTune, data: Data, texts: Texts, student: Student | None = None
) -> Path:
    """The folder of the teacher fine-tuned on the members: found again where it was made the same way, else made.

    Args:
        teacher: what to train.
        fine_tune: how, and the folder.
        data: read here: ``max_length``, and ``seed`` for the weights and the order of the texts.
        texts: all members, and the non-members for a tokenizer that has to be made.
        student: that is to learn from it, where there is one to be checked first.

    Raises:
        InputError: if the folder holds another teacher, or something else, or cannot be written.
    """
    folder, made = Path(fine_tune.folder), _made(teacher, fine_tune, data, texts)
    if teacher.dp:
        check_ready("teacher.dp")
    if _is_there(folder, made):
        return folder
    refuse_under_fsdp("teacher.fine_tune, once for all students,")
    with by_first(lambda: held_beside(folder, "teacher.fine_tune.folder", wait=True)):
        if _is_there(folder, made):  # by the process that this one waited for
            return folder
        model, tokenizer = _untrained(teacher, data.seed, texts)
        members = encode(texts.members, tokenizer, data.max_length)
        check_lengths(members.ids, model.config, student, tokenizer)
        spent = _train(model, members, fine_tune, data.seed, teacher.dp)
        if processes().is_main_process:
            _save(model, tokenizer, folder, {**made, **spent})
        processes().wait_for_everyone()
    return folder


def is_made(teacher: Teacher, fine_tune: FineTune, data: Data, texts: Texts) -> bool:
    """Whether the folder holds this teacher; raises InputError where it holds something else."""
    return _holds(Path(fine_tune.folder), _made(teacher, fine_tune, data, texts))


def _made(teacher: Teacher, fine_tune: FineTune, data: Data, texts: Texts) -> dict[str, Any]:
    return {
        "teacher": teacher.model_dump(mode="json", include={"model", "config", "revision"}),
        "fine_tune": fine_tune.model_dump(mode="json", exclude={"folder"}),
        "members": fingerprint(texts.members),
        "max_length": data.max_length,
        "dp": teacher.dp.model_dump(mode="json") if teacher.dp else None,
        **({"nonmembers": fingerprint(texts.nonmembers)} if teacher.config else {}),  # its tokenizer is made of them
    }


def _is_there(folder: Path, made: dict[str, Any]) -> bool:
    """The same answer in every process."""
    return from_first(processes().is_main_process and _holds(folder, made))


def _holds(folder: Path, made: dict[str, Any]) -> bool:
    with writing(f"teacher.fine_tune.folder: {folder}"):
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return False
    if not (folder / MADE).is_file():
        raise InputError(f"teacher.fine_tune.folder: {folder} holds no teacher of midistill: give a new folder")
    try:
        earlier = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(
            f"teacher.fine_tune.folder: {folder / MADE} is damaged: remove that folder, or give another one"
        ) from None
    if "nonmembers" not in earlier:  # of 0.2.0 or before, which did not keep them
        made = {key: value for key, value in made.items() if key != "nonmembers"}
    differing = [key for key in made if earlier.get(key) != made[key]]
    if differing:
        raise InputError(
            f"teacher.fine_tune.folder: {folder} holds a teacher made otherwise ({', '.join(differing)} differ):"
            " give another folder"
        )
    return True


def _untrained(teacher: Teacher, seed: int, texts: Texts) -> tuple[Any, PreTrainedTokenizerBase]:
    if teacher.config is None:
        tokenizer = load_tokenizer(teacher.model or "", "teacher.model", teacher.revision)
        kwargs = {"dtype": torch.float32, "revision": teacher.revision}
        model = from_pretrained(AutoModelForCausalLM, teacher.model, "teacher.model", **kwargs)
    else:
        config, tokenizer = of_config(teacher.config, texts)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    check_vocabulary(model.config, tokenizer, "teacher")
    return model, tokenizer


def of_config(values: dict[str, Any], texts: Texts) -> tuple[Any, PreTrainedTokenizerBase]:
    """The config of a teacher from nothing, and the tokenizer that is made for it."""
    # On both sides alike: a tokenizer that knows the members' words better would give them away.
    tokenizer = train_tokenizer(texts.members + texts.nonmembers, int(values.get("vocab_size", VOCABULARY)))
    return config_from_dict(values, tokenizer, "teacher.config"), tokenizer


def train_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """A byte-level BPE tokenizer of the texts, with at most `vocab_size` tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[end], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    made: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=end, bos_token=end, pad_token=end
    )
    return made


def _train(model: Any, texts: Encoded, fine_tune: FineTune, seed: int, dp: DP | None) -> dict[str, Any]:
    """Trains it; answers what that spent, under ``spent``, or nothing without DP."""
    with TemporaryDirectory() as scratch:  # the Trainer wants one, though it saves nothing
        trainer = fine_tuning_trainer(model, texts.ids, fine_tune, seed, scratch, dp)
        trainer.train()
    return {"spent": spent} if (spent := trainer.spent()) else {}


def fine_tuning_trainer(
    model: Any, ids: list[list[int]], fine_tune: FineTune, seed: int, scratch: str, dp: DP | None = None
) -> DPTrainer:
    """Ready to train `model` on the texts of these token ids."""
    size = fine_tune.batch_size
    trainer = DPTrainer(
        "teacher.dp",
        dp,
        batch=size,
        at_once=min(size, AT_ONCE),
        model=model,
        args=_arguments(fine_tune, seed, scratch, dp),
        train_dataset=TextDataset(ids),
        data_collator=Collator(),
    )
    show(trainer, "fine-tuning the teacher")
    return trainer


def _arguments(fine_tune: FineTune, seed: int, folder: str, dp: DP | None) -> TrainingArguments:
    clip = {"max_grad_norm": 0.0} if dp else {}  # with DP each text's gradient is clipped before the sum
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=fine_tune.epochs,
        learning_rate=fine_tune.learning_rate,
        per_device_train_batch_size=fine_tune.batch_size,
        seed=seed,
        save_strategy="no",
        report_to="none",
        logging_steps=50,
        remove_unused_columns=False,
        use_cpu=use_cpu(),
        dataloader_pin_memory=not use_cpu(),
        **clip,
    )


def _save(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, made: dict[str, Any]) -> None:
    with whole_folder(folder, "teacher.fine_tune.folder") as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        (unfinished / MADE).write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
