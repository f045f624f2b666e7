"""The processes of a `torchrun` or `accelerate launch`; one process is the first and only one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def use_cpu() -> bool:
    """Whether there is nothing else; without being told, accelerate does not train on several CPU processes."""
    return not torch.accelerator.is_available()


def processes() -> PartialState:
    """This process among the others."""
    return PartialState(cpu=use_cpu())


def from_first(value: T) -> T:
    """The first process's value, in every process."""
    processes()  # accelerate would make the state itself, as of one process where there is no GPU
    values = [value]
    broadcast_object_list(values)
    return values[0]


def by_first(held: Callable[[], AbstractContextManager[None]]) -> AbstractContextManager[None]:
    """What the first process holds (a lock) for all of them."""
    return held() if processes().is_main_process else nullcontext()


def first_alone(work: Callable[[], None]) -> None:
    """The first process does the work while the others wait."""
    if processes().is_main_process:
        work()
    processes().wait_for_everyone()
