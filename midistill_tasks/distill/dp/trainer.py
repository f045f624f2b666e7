"""transformers' Trainer whose steps are those of DP-SGD: a batch of the loader is what one step of it draws.

The Trainer keeps what it does for every training (optimizer, schedule by steps, checkpoints, log); what differs is
which texts a step takes and what stands in ``grad`` before it. Resuming draws new texts and new noise for the steps
that are left, as good as those that were not made: ε follows from how many steps the weights have seen, which the
checkpoint knows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback

from midistill_tasks.distill.dp.accounting import mechanism
from midistill_tasks.distill.dp.gradients import Batch, PrivateGradients, logits_of, secret_generator
from midistill_tasks.distill.loader import Collator
from midistill_tasks.distill.loss.engine import distillation_loss
from midistill_tasks.distill.loss.sources import Logits
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.schema import DP

logger = logging.getLogger(__name__)


class DPTrainer(Trainer):  # type: ignore[misc]
    """A Trainer as any other where `dp` is None.

    Args:
        key: of the recipe's section, for what is said.
        dp: what to promise.
        batch: texts that a step is expected to take.
        at_once: texts that a forward takes at most; it changes memory, and nothing else.
        trainer: the Trainer's own; `train_dataset` has token ids, and the model is a causal LM.

    Raises:
        InputError: the gradients of single texts are not to be had of this architecture.
    """

    def __init__(self, key: str, dp: DP | None, batch: int, at_once: int, **trainer: Any) -> None:
        super().__init__(**trainer)
        self.private: PrivateGradients | None = None
        if dp is None:
            return
        self.args._n_gpu = min(1, self.args.n_gpu)  # the Trainer's own spread over GPUs makes copies without hooks
        self.dp, self.at_once, texts = dp, at_once, len(self.train_dataset)
        self.mechanism = mechanism(dp, texts, batch, self.args.num_train_epochs)
        self.private = PrivateGradients(self.model, self.mechanism, dp.max_grad_norm)
        self.private.check(_text_losses)
        self.batches: Sampler[list[int]] = Poisson(texts, self.mechanism.sample_rate, self.mechanism.batch)
        self.add_callback(_Accounts(key, self))

    def in_order(self, batch: int) -> None:
        """Takes the texts as they stand, so many a step, and counts nothing: for a clock, not for a training."""
        self.remove_callback(_Accounts)
        self.batches = BatchSampler(SequentialSampler(self.train_dataset), batch, drop_last=False)

    def spent(self) -> dict[str, Any] | None:
        """By the steps that were made; None without DP."""
        return self.mechanism.spent(self.dp, self.state.global_step) if self.private else None

    def get_train_dataloader(self) -> DataLoader[Any]:
        """With DP: one batch a step."""
        if self.private is None:
            return super().get_train_dataloader()  # type: ignore[no-any-return]
        return DataLoader(self.train_dataset, batch_sampler=self.batches, collate_fn=_EmptyToo())

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer; the model is as any other afterwards."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self.private:
                self.private.close()

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """With DP the loss is the sum over the texts that came, over the number expected."""
        if self.private is None:
            return super().training_step(model, inputs, num_items_in_batch)  # type: ignore[no-any-return]
        model.train()
        return self.private.take(_parts(self._prepare_inputs(inputs), self.at_once), self.text_losses)

    def text_losses(self, model: Any, batch: Batch) -> Tensor:
        """Sum over the texts of the mean cross-entropy of each."""
        return _text_losses(model, batch)


def _text_losses(model: Any, batch: Batch) -> Tensor:
    made = distillation_loss(Logits(logits_of(model, batch)), None, batch["labels"], alpha=0, n_tokens=1, per_text=True)
    return made.loss


class Poisson(Sampler[list[int]]):
    """The texts of each step of an epoch: every text with this chance, whoever else comes; perhaps none."""

    def __init__(self, texts: int, rate: float, batch: int) -> None:
        self.texts, self.rate, self.steps = texts, rate, -(-texts // batch)
        self.generator = secret_generator()

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.steps):
            yield (torch.rand(self.texts, generator=self.generator) < self.rate).nonzero()[:, 0].tolist()


class _EmptyToo(Collator):
    """As `Collator`; of no text a batch without rows."""

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        if items:
            return super().__call__(items)
        names = ("input_ids", "attention_mask", "labels", "shift_labels")
        return {name: torch.zeros(0, 1, dtype=torch.long) for name in names}


def _parts(batch: Batch, at_once: int) -> Iterator[Batch]:
    """At most so many texts, and no longer than the longest of them."""
    lengths = batch["attention_mask"].sum(1)
    for start in range(0, len(lengths), at_once):
        rows = slice(start, start + at_once)
        yield {name: tensor[rows, : int(lengths[rows].max())] for name, tensor in batch.items()}


class _Accounts(TrainerCallback):  # type: ignore[misc]
    """Says at the start what the noise is, keeps it in the log, and goes on with no other one."""

    def __init__(self, key: str, trainer: DPTrainer) -> None:
        self.key, self.trainer = key, trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called before the first step, and before the first one after an interruption.

        Raises:
            InputError: the steps that were made had other noise, or other chances.
        """
        found, dp, texts = self.trainer.mechanism, self.trainer.dp, len(self.trainer.train_dataset)
        line = {"dp_noise_multiplier": found.noise_multiplier, "dp_sample_rate": found.sample_rate}
        if state.global_step:
            before: dict[str, float] = next((each for each in state.log_history if "dp_sample_rate" in each), {})
            if any(before.get(name) != value for name, value in line.items()):
                raise InputError(
                    f"{self.key}: the steps that were made had another noise or another number of texts, so their ε"
                    " would be wrong: begin anew in another output"
                )
            return
        due = control.should_log
        self.trainer.log(line)
        control.should_log = due
        logger.info(
            "%s: epsilon %g at delta %g for each of %d texts: noise multiplier %.4g, sample rate %.4g, %d steps (PRV)",
            self.key, dp.epsilon, dp.delta, texts, found.noise_multiplier, found.sample_rate, found.steps,
        )  # fmt: skip
        if dp.delta * texts >= 1:
            logger.warning("%s.delta (%g) is not below one over the %d texts: it may give one of them away whole",
                           self.key, dp.delta, texts)  # fmt: skip

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called when the last step is made, or the run was asked to end before it."""
        spent = self.trainer.mechanism.spent(self.trainer.dp, state.global_step)
        self.trainer.log({"dp_epsilon": spent["epsilon"]})
        logger.info("%s: epsilon %.4g at delta %g was spent", self.key, spent["epsilon"], spent["delta"])
