"""FSDP2, where each process holds a share of the student's weights: what does not run so, and the whole of a share.

The teacher is never sharded: it is no part of what accelerate prepares.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from midistill_tasks.errors import InputError
from midistill_tasks.processes import processes, use_cpu

_TORCHRUN = "torchrun --nproc_per_node N -m midistill_tasks.cli …"
_REFUSED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed keeps and clips gradients in its own way, which this trainer does not see",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM trains models of its own",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config splits texts and layers, which this trainer does not",
}
"""What `accelerate launch` sets in the environment, and why it is refused."""
_REFUSED_OF_FSDP = {
    "FSDP_OFFLOAD_PARAMS": "fsdp_offload_params: what is measured in training needs the weights where they compute",
    "FSDP_ACTIVATION_CHECKPOINTING": "fsdp_activation_checkpointing gives the weights other names",
}


def check_launcher() -> None:
    """Looks, before any work, at what `accelerate launch` was told.

    Raises:
        InputError: it is something that this trainer would do wrong, or not at all.
    """
    for name, why in _REFUSED.items():
        if _is_set(name):
            raise InputError(f"accelerate: {why}: take FSDP2 (examples/accelerate/fsdp2.yaml) or {_TORCHRUN}")
    if not _uses_fsdp():
        return
    if use_cpu():  # accelerate would train whole models, and not say so
        raise InputError(f"accelerate: FSDP shares weights out among GPUs, and there is none: take {_TORCHRUN}")
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError("accelerate: FSDP of version 1 is not supported: add --fsdp_version 2")
    for name, why in _REFUSED_OF_FSDP.items():
        if _is_set(name):
            raise InputError(f"accelerate: {why}: set it to false")
    # Else transformers leaves every model of the other processes empty, the teacher too, which nobody fills there.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"


def refuse_under_fsdp(what: str) -> None:
    """For what needs the whole student in one process, or is a training of its own.

    Raises:
        InputError: the launcher was told to use FSDP.
    """
    if _uses_fsdp():
        raise InputError(f"{what} does not run under FSDP: take {_TORCHRUN}")


def check_checkpoint(checkpoint: Path | None) -> None:
    """Looks at whether this run can go on from it: the optimizer's state has other files under FSDP, and where those
    that are looked for are not there, the Trainer begins with none.

    Raises:
        InputError: it was written under another launcher.
    """
    if checkpoint is None or (written := any(checkpoint.glob("pytorch_model_fsdp*"))) == _uses_fsdp():
        return
    word = "under" if written else "without"
    raise InputError(f"output: {checkpoint} was written {word} FSDP: go on {word} it, or give another output")


def whole(model: Any) -> Any:
    """The model as it is or, under FSDP2, one on the CPU with all its weights, in the first process alone.

    Every process calls it; the others get None.
    """
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(model, FSDPModule):
        return model
    student: Any = model
    weights = get_model_state_dict(student, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not processes().is_main_process:
        return None
    gathered = AutoModelForCausalLM.from_config(student.config, dtype=torch.float32)
    gathered.load_state_dict(weights)
    gathered.generation_config = student.generation_config
    return gathered


def _uses_fsdp() -> bool:
    return _is_set("ACCELERATE_USE_FSDP")


def _is_set(name: str) -> bool:
    return os.environ.get(name, "false").lower() in ("true", "1")
