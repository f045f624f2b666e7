"""The student that a recipe asks for: its stock config, its weights, and the interventions that change its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.distill.lora import new_modules, with_lora
from midistill_tasks.errors import InputError
from midistill_tasks.methods import Intervention
from midistill_tasks.models.architectures import convert, student_config
from midistill_tasks.models.loading import (
    check_length,
    check_vocabulary,
    config_from_dict,
    from_pretrained,
    load_tokenizer,
    split_args,
)
from midistill_tasks.models.thinning import thinned, thinned_config
from midistill_tasks.recipes.schema import Student

Filled = Callable[[Any], PreTrainedModel]
"""A stock config → a causal LM of it in float32, with the weights that the student begins with."""


def student_tokenizer(student: Student) -> PreTrainedTokenizerBase | None:
    """The tokenizer that comes with the student; None where it is made from a bare config."""
    name = student.checkpoint or (student.config if isinstance(student.config, str) else None)
    key = "student.checkpoint" if student.checkpoint else "student.config"
    if name is None:
        return None
    path, args = split_args(name, key)
    folder = Path(path, args.get("subfolder", ""))
    if folder.is_dir() and "gguf_file" not in args and not (folder / "tokenizer_config.json").is_file():
        return None
    return load_tokenizer(name, key)


def make_student(
    student: Student,
    interventions: Sequence[Intervention],
    seed: int,
    teacher: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase,
) -> Any:
    """The student with its interventions, in float32 and ready to train; its random weights follow `seed`.

    Raises:
        InputError: a model cannot be loaded or has too few tokens, or an intervention does not fit it.
    """
    torch.manual_seed(seed)
    interventions = [intervention.with_tokens(tokenizer) for intervention in interventions]
    config, filled = _stock(student, teacher, tokenizer)
    check_vocabulary(config, tokenizer, "student")
    for intervention in interventions:
        config = intervention.resize(config)
    if student.reinitialise:
        model = AutoModelForCausalLM.from_config(student_config(config, interventions), dtype=torch.float32)
    else:
        model = convert(filled(config), interventions)
    return with_lora(model, student.lora, new_modules(model, config)) if student.lora else model


def own_config(student: Student, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The config of the student where it brings one, not a part of its teacher's; else None."""
    if isinstance(student.config, dict):
        return config_from_dict(student.config, tokenizer, "student.config")
    if student.config:
        return from_pretrained(AutoConfig, student.config, "student.config")
    return from_pretrained(AutoConfig, student.checkpoint, "student.checkpoint") if student.checkpoint else None


def check_lengths(rows: Sequence[Sequence[int]], teacher: Any, student: Student | None, tokenizer: Any) -> None:
    """`check_length` for both as far as they are known; `teacher` is a config, a student made of it as long.

    Raises:
        InputError: a text has more tokens than one of them has positions.
    """
    own = own_config(student, tokenizer) if student else None
    for role, config in (("teacher", teacher), ("student", own)):
        if config is not None:
            check_length(config, rows, role)


def _stock(student: Student, teacher: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase) -> tuple[Any, Filled]:
    """The config that the student begins with, and what fills a model of it."""
    step = student.every_nth_layer
    if step is not None:
        if teacher is None:
            raise InputError("student.every_nth_layer takes layers from the teacher: give teacher.model")
        return thinned_config(teacher.config, step), lambda config: thinned(teacher, config, step)
    if not student.checkpoint:
        return own_config(student, tokenizer), _from_config
    name, key = student.checkpoint, "student.checkpoint"
    return (
        own_config(student, tokenizer),
        lambda config: cast(
            PreTrainedModel,
            from_pretrained(AutoModelForCausalLM, name, key, dtype=torch.float32, config=config),
        ),
    )


def _from_config(config: Any) -> PreTrainedModel:
    return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, dtype=torch.float32))
