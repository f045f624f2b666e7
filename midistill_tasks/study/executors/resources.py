"""What a part needs of a machine: as the recipe says, else by an estimate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from midistill_tasks.options import Strict

if TYPE_CHECKING:
    from midistill_tasks.study.graph import Part
    from midistill_tasks.study.work import Work

GB = 2**30
PROCESS = GB
"""Bytes of a process that has loaded its libraries."""


class Resources(Strict):
    """What a part takes of a machine; without a cluster only `cpus` means something."""

    gpus: float | None = Field(None, ge=0, description="of a part with a model; 1 by default, on Ray where it has any")
    cpus: int | None = Field(None, ge=1, description="threads of a part; by default 1, or the machine's share a job")
    memory: float | None = Field(None, gt=0, description="GB of a part; estimated by default")
    slurm: dict[str, Any] = Field(
        default_factory=dict, description="options of sbatch, such as {partition: gpu, time: 600} (minutes)"
    )


@dataclass(frozen=True)
class Need:
    """What a unit takes.

    Attributes:
        gpus: None = 1 where the cluster has any.
        cpus: None = the executor's choice.
        memory: bytes; None = not known.
    """

    gpus: float | None
    cpus: int | None
    memory: int | None


def need_of(work: Work, parts: Iterable[Part], estimated: int | None) -> Need:
    """Of parts that run one after another; `estimated` are the bytes of one with a model."""
    said, with_model = work.study.resources, any(work.step(part).has_model for part in parts)
    gpus = 0 if not with_model or work.study.evaluate.device == "cpu" else said.gpus
    memory = int(said.memory * GB) if said.memory else estimated if with_model else PROCESS
    return Need(gpus, said.cpus, memory)


def estimated_memory(work: Work) -> int | None:
    """Bytes, about and rather too many, of a part that trains: float32 weights of the teacher and of a student that is
    as large, its gradients and two moments of Adam, and one batch's activations, of which the logits count most.

    None where the teacher's config is not to be had.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from midistill_tasks.distill.fine_tune import VOCABULARY
    from midistill_tasks.models.loading import from_pretrained
    from midistill_tasks.study.texts import study_data

    teacher, train = work.study.teacher, work.study.train
    try:
        if teacher.model:
            config = from_pretrained(AutoConfig, teacher.model, "teacher.model", revision=teacher.revision)
        else:
            config = AutoConfig.for_model(**{"vocab_size": VOCABULARY, **(teacher.config or {})})
        with torch.device("meta"):
            weights = 4 * sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
    except (ValueError, KeyError, OSError, TypeError):  # what cannot be made of its config alone; InputError is one
        return None
    batch = max(train.batch_size, teacher.fine_tune.batch_size if teacher.fine_tune else 0)
    tokens = batch * (study_data(work.study).max_length or 1024)
    of_token = 4 * config.vocab_size + 30 * config.num_hidden_layers * config.hidden_size
    return int(PROCESS + 5 * weights + 4 * tokens * of_token)
