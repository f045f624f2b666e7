"""LoRA by peft: adapters on the linear layers of a student, and what interventions put into it trained whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from midistill_tasks.errors import InputError
from midistill_tasks.files import whole_folder
from midistill_tasks.models.surgery import skeleton
from midistill_tasks.recipes.schema import Lora

ADAPTER = "adapter"
"""Folder in the student's."""


def new_modules(student: PreTrainedModel, config: Any) -> list[str]:
    """Names of the modules with weights that are no module of the stock model, or one of another class."""
    stock = {name: type(module) for name, module in skeleton(config).named_modules()}
    modules = ((name, m) for name, m in student.named_modules() if next(m.parameters(recurse=False), None) is not None)
    return [name for name, module in modules if type(module) is not stock.get(name)]


def with_lora(model: PreTrainedModel, lora: Lora, new: Sequence[str]) -> Any:
    """The model with adapters on all linear layers but the head; its `new` modules are trained whole.

    Raises:
        InputError: peft is not installed, or does not adapt this architecture.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError("student.lora needs the package peft: python -m pip install peft") from None
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        modules_to_save=list(new) or None,  # else they would stay as they were drawn: peft freezes all but its own
        task_type="CAUSAL_LM",
    )
    with _as_base(model.config) as base:
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            reason = " ".join(str(error).split()).partition(". ")[0]
            raise InputError(
                f"student.lora: peft does not adapt {base} ({reason}): remove 'lora', or take another architecture"
            ) from error


def save_adapter(model: Any, folder: Path) -> None:
    """What was trained, before it is merged: with it the harness has the model with and without (``reference: base``).

    Raises:
        InputError: it cannot be written; nothing is left then.
    """
    if folder.exists():  # of a run that was killed after this
        return
    with whole_folder(folder, "output") as unfinished:
        model.save_pretrained(unfinished, save_embedding_layers=False)  # else peft asks the hub for its base
        (unfinished / "README.md").unlink(missing_ok=True)  # peft's, a form to fill in


@contextmanager
def _as_base(config: Any) -> Iterator[str]:
    """Within it a student's config has its base's ``model_type``, by which peft chooses what it adapts: an arm of
    Mixtral has adapters on its experts as the control has, and Mamba is refused in both."""
    base: str = (getattr(config, "midistill", None) or {}).get("base", config.model_type)
    if base == config.model_type:
        yield base
        return
    config.model_type = base
    try:
        yield base
    finally:
        del config.model_type


def n_parameters_saved(student: Any) -> int:
    """Parameters of the student as it is saved: LoRA's adapters are merged into what they adapt, ties count once."""
    return sum(
        parameter.numel()
        for name, parameter in student.named_parameters()
        if "lora_" not in name and ".original_module." not in name
    )
