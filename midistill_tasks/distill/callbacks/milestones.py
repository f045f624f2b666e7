"""Students of one training at several of its steps: what stopping early would have given, with the same schedule."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerCallback

from midistill_tasks.files import whole_folder, write_atomically
from midistill_tasks.processes import processes

STOPPED = "stopped.json"
"""In the student's folder: its step, and those of the whole training."""


class Milestones(TrainerCallback):  # type: ignore[misc]
    """Writes the weights after these steps as ordinary student folders; the training itself goes on as without it.

    They are of the class of the run's student, which a fresh process reads and compares at the end (`models.saving`),
    so they are not compared one by one. What is there is kept: of a run that is resumed it is the same.
    """

    def __init__(self, shares: Mapping[Path, float], tokenizer: PreTrainedTokenizerBase) -> None:
        """`shares`: folder → share of the run's steps, above 0, at most 1; at least one step, rounded."""
        self.shares, self.tokenizer = shares, tokenizer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when the weights are those of the step."""
        due = [folder for folder, share in self.shares.items() if step_of(share, state.max_steps) == state.global_step]
        if due and processes().is_main_process:
            model = kwargs["model"]
            for folder in due:
                if not folder.exists():
                    self._write(getattr(model, "module", model), folder, state)

    def _write(self, model: Any, folder: Path, state: Any) -> None:
        if hasattr(model, "merge_and_unload"):  # LoRA's adapters: the student goes on with them
            model = copy.deepcopy(model).merge_and_unload()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(folder, "output") as unfinished:
            model.save_pretrained(unfinished)
            self.tokenizer.save_pretrained(unfinished)
            said = {"step": state.global_step, "steps": state.max_steps}
            write_atomically(unfinished / STOPPED, json.dumps(said) + "\n")


def step_of(share: float, steps: int) -> int:
    """Of a training of so many steps; at least the first."""
    return max(1, round(share * steps))
