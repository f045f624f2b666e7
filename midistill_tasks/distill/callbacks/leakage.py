"""Measures, while a student trains, what it has learnt and how much it leaks, next to its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

from midistill_tasks.distill.heldout import perplexities
from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.models.batching import token_statistics

FIGURES = ("heldout_byte_perplexity", "heldout_word_perplexity", "loss_auroc", "loss_member_acc")


class Sample:
    """The fixed texts that are measured.

    Args:
        members, nonmembers: their ids, with the token ids that are kept of them; the loss attack is made on these.
        tokenizer: for the whole texts.
        few: the non-members among these, whole.
        heldout: all non-members, whole: what the harness's ``heldout_<split>`` scores.
    """

    def __init__(
        self,
        members: Sequence[tuple[str, list[int]]],
        nonmembers: Sequence[tuple[str, list[int]]],
        tokenizer: PreTrainedTokenizerBase,
        few: Sequence[str],
        heldout: Sequence[str],
    ) -> None:
        self._names = [(name, label) for texts, label in ((members, 1), (nonmembers, 0)) for name, _ in texts]
        self.rows = [row for texts in (members, nonmembers) for _, row in texts]
        self._tokenizer, self._few, self._heldout = tokenizer, few, heldout

    def measure(self, model: nn.Module) -> dict[str, float]:
        """`FIGURES` on the sample: perplexities on its non-members (nobody trained on them), AUROC and cross-fitted
        member accuracy of the loss attack on all."""
        statistics = token_statistics(model, self.rows)
        means = [float(text.logprob.mean()) for text in statistics]
        scored = [Scored(label, mean, name, name) for (name, label), mean in zip(self._names, means, strict=True)]
        return {
            **perplexities(model, self._tokenizer, self._few),
            "loss_auroc": METRICS["auroc"].value(scored),
            "loss_member_acc": METRICS["member_acc"].value(scored),
        }

    def measure_whole(self, model: nn.Module) -> dict[str, float]:
        """The perplexities on all held-out texts."""
        return perplexities(model, self._tokenizer, self._heldout)


class LeakageCallback(TrainerCallback):  # type: ignore[misc]
    """Logs the figures of `Sample.measure` before training, every `every` steps and at the end.

    Student's figures appear as ``student_loss_auroc`` …, the teacher's as ``teacher_…`` where they are known.
    """

    def __init__(self, trainer: Trainer, sample: Sample, teacher: dict[str, float] | None, every: int) -> None:
        """`teacher`: its figures on the sample."""
        self.trainer, self.sample, self.every = trainer, sample, every
        self.teacher = {f"teacher_{name}": value for name, value in (teacher or {}).items()}
        self.last: dict[str, float] = {}
        self._measured_at: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measures the student as it starts, unless the run is resumed."""
        if state.global_step == 0:
            self._measure(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measures every `every` steps."""
        if state.global_step % self.every == 0:
            self._measure(state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measures the student as it will be saved, also where a resumed run had no step left to do; not one that was
        stopped before, by somebody who waits for it to end."""
        if self._measured_at != state.global_step >= state.max_steps:
            self._measure(state, control)

    def _measure(self, state: Any, control: Any) -> None:
        self._measured_at = state.global_step
        self.last = {f"student_{name}": value for name, value in self.sample.measure(self.trainer.model).items()}
        due = control.should_log
        self.trainer.log({**self.last, **self.teacher})
        control.should_log = due  # logging clears it, and the step's own line would be lost
