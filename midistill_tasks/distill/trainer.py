"""transformers' Trainer with the distillation loss; everything else (loggers, checkpoints, DDP) is the Trainer's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments

from midistill_tasks.distill.callbacks.guard import BlowUpGuard
from midistill_tasks.distill.callbacks.progress import show
from midistill_tasks.distill.dp.gradients import Batch, logits_of
from midistill_tasks.distill.dp.trainer import DPTrainer
from midistill_tasks.distill.loader import Collator, Shuffle, TellEpoch, TextDataset, cached
from midistill_tasks.distill.loss.engine import DistillationLoss, distillation_loss
from midistill_tasks.distill.loss.sources import Head, Logits, Source
from midistill_tasks.distill.run_folder import CHECKPOINTS, MarkWholeCheckpoints
from midistill_tasks.distill.sampling.on_policy import is_on_policy, own_texts
from midistill_tasks.methods import DIVERGENCES
from midistill_tasks.models.last_head import head_is_last, head_returns
from midistill_tasks.processes import use_cpu
from midistill_tasks.recipes.schema import Recipe


class DistillationTrainer(DPTrainer):
    """Trains `student` by a recipe.

    Args:
        student: a causal LM in float32, perhaps a PEFT model.
        teacher: a frozen causal LM on the same tokens and device; None with a cache, or with alpha 0.
        recipe: read here: ``loss``, ``train``, ``seed``, ``output``; ``interventions`` for their advice.
        texts: what to train on.
        n_tokens: tokens of the tokenizer; the divergence runs over them only, not over padding of the vocabulary.
        inputs: for `MarkWholeCheckpoints`.
    """

    def __init__(
        self,
        student: Any,
        teacher: Any,
        recipe: Recipe,
        texts: TextDataset,
        n_tokens: int,
        inputs: Mapping[str, str] | None = None,
    ) -> None:
        train = recipe.train
        super().__init__(
            "train.dp",
            train.dp,
            batch=train.batch_size * train.accumulate,
            at_once=train.batch_size,
            model=student,
            args=arguments(recipe),
            train_dataset=texts,
            data_collator=Collator(shifted=recipe.loss.compat is None),
        )
        if self.is_fsdp_enabled:  # it would have the loss and the head in bfloat16, too; autocast has neither
            self.accelerator.state.fsdp_plugin.mixed_precision_policy = None
        # Makes the Trainer count the labels of a whole step, over batches and processes, for `compute_loss`.
        self.model_accepts_loss_kwargs = True
        self.teacher, self.recipe, self.n_tokens, self.cache = teacher, recipe, n_tokens, texts.cache
        loss = recipe.loss
        self.divergence = partial(DIVERGENCES[loss.divergence], **loss.options)
        self.short_way = train.dp is None and head_is_last(student.train())  # hooks do not see a gradient by hand
        self.teacher_short_way = teacher is not None and head_is_last(teacher)
        self.guard = BlowUpGuard(loss, student.config.vocab_size, recipe.interventions.chosen)
        self.terms: list[Tensor] = []
        self.terms_since = 0
        self.on_policy_steps: set[int] = set()
        self.shuffle = Shuffle(len(texts), self.args.train_batch_size * self.args.world_size, recipe.seed)
        for callback in (self.guard, MarkWholeCheckpoints(inputs), TellEpoch(self.shuffle)):
            self.add_callback(callback)
        show(self, "training")

    def _get_train_sampler(self, train_dataset: Any = None) -> Shuffle:
        return self.shuffle

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """By ``from_pretrained``, and all of it: transformers 5 renames weights on their way to the disk (GPT-NeoX's
        head, a mixture's experts), and its Trainer looks for those that it wrote by their names in memory."""
        student = self.accelerator.unwrap_model(self.model)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or not isinstance(student, PreTrainedModel):  # PEFT's
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        loaded = type(student).from_pretrained(resume_from_checkpoint, dtype=student.dtype)
        student.load_state_dict(loaded.state_dict())

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The recipe's loss of one batch, its sums divided by the tokens of the whole step."""
        on_policy = is_on_policy(self.recipe.loss.on_policy, self.recipe.seed, self.state.global_step)
        if on_policy:
            inputs = self._own_texts(model, inputs)
        labels = inputs["labels"]
        tokens = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        teacher = self._teacher(tokens, inputs)

        def loss_of(student: Head | Logits) -> DistillationLoss:
            return self._loss(student, teacher, labels, num_items_in_batch, with_ce=not on_policy)

        loss: Tensor
        if self.short_way:
            # The loss is made inside the model's own forward, so that DDP and FSDP see nothing unusual.
            made: list[DistillationLoss] = []

            def at_head(hidden: Tensor, head: nn.Linear) -> Tensor:
                with torch.autocast(hidden.device.type, enabled=False):  # a loss in bfloat16 has two digits
                    made.append(loss_of(Head(hidden.to(head.weight.dtype), head.weight, head.bias)))
                return made[0].loss

            with head_returns(self.accelerator.unwrap_model(model), at_head):
                loss = model(**tokens, use_cache=False).logits
        else:
            made = [loss_of(Logits(model(**tokens, use_cache=False).logits))]
            loss = made[0].loss
        # DDP averages over processes what was already divided by the tokens of all of them.
        scale: int = self.accelerator.num_processes
        self.guard.see(float(loss.detach()) * scale)
        self._note(_terms(made[0]) * scale)
        if on_policy:
            self.on_policy_steps.add(self.state.global_step)
        return loss * scale

    def _own_texts(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Any]:
        student, recipe = self.accelerator.unwrap_model(model), self.recipe
        seed = recipe.seed * 1_000_003 + self.state.global_step
        return own_texts(student, inputs, recipe.loss.on_policy_tokens, self.n_tokens, seed)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """As the base; the guard sees the loss of a whole step under DP, where `compute_loss` is not asked."""
        if self.private:
            self._note(torch.zeros(2, device=self.args.device))  # of a step that takes no text, too
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.private:
            self.guard.see(float(loss))
        return loss

    def text_losses(self, model: Any, batch: Batch) -> Tensor:
        """Sum over the texts of the recipe's loss of each, by the tokens of that text alone."""
        teacher = self._teacher({name: batch[name] for name in ("input_ids", "attention_mask")}, batch)
        made = self._loss(Logits(logits_of(model, batch)), teacher, batch["labels"], 1, per_text=True)
        self._note(_terms(made) / self.mechanism.batch)
        return made.loss

    def _loss(
        self, student: Head | Logits, teacher: Source | None, labels: Tensor, n_tokens: Any, **how: bool
    ) -> DistillationLoss:
        loss = self.recipe.loss
        return distillation_loss(
            student,
            teacher,
            labels,
            alpha=loss.alpha,
            temperature=loss.temperature,
            divergence=self.divergence,
            n_tokens=n_tokens,
            label_smoothing=loss.label_smoothing,
            compat=loss.compat,
            **how,
        )

    def _note(self, terms: Tensor) -> None:
        """Keeps those of a batch for the next log line."""
        if not self.terms:
            self.terms_since, self.on_policy_steps = self.state.global_step, set()
        self.terms.append(terms)

    def _teacher(self, tokens: dict[str, Tensor], inputs: Batch) -> Source | None:
        if (arrays := cached(inputs)) and self.cache is not None:
            return self.cache.source(arrays)
        if self.teacher is None:
            return None
        with torch.no_grad():
            if not self.teacher_short_way:
                return Logits(self.teacher(**tokens, use_cache=False).logits[..., : self.n_tokens])
            with head_returns(self.teacher, lambda hidden, head: hidden):
                hidden = self.teacher(**tokens, use_cache=False).logits
        head = self.teacher.get_output_embeddings()
        bias = None if head.bias is None else head.bias[: self.n_tokens]
        return Head(hidden, head.weight[: self.n_tokens], bias)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the two terms of the loss, before alpha and T², as means over the steps since the last log line that
        have them (the student's own texts have no CE); ``train_loss`` becomes the mean over all steps, where the
        Trainer's knows of those since a resume only."""
        if "loss" in logs and self.terms:
            ce, divergence = self.accelerator.reduce(torch.stack(self.terms).sum(0), "mean").tolist()
            steps = self.state.global_step - self.terms_since
            with_ce = steps - len(self.on_policy_steps)
            logs |= {"ce": ce / with_ce} if with_ce else {}
            logs["divergence"] = divergence / steps
            self.terms.clear()
        if "train_loss" in logs and any("loss" in line for line in self.state.log_history):
            logs["train_loss"] = _mean_loss(self.state.log_history)
        super().log(logs, start_time)


def _terms(made: DistillationLoss) -> Tensor:
    return torch.stack([made.ce.detach(), made.divergence.detach()])


def _mean_loss(log: list[dict[str, float]]) -> float:
    """Mean loss of a step, from the means since the line before each."""
    lines = [line for line in log if "loss" in line]
    before = [0, *(line["step"] for line in lines)]
    return sum(line["loss"] * (line["step"] - since) for line, since in zip(lines, before, strict=False)) / before[-1]


def arguments(recipe: Recipe) -> TrainingArguments:
    """The recipe in the Trainer's words."""
    train = recipe.train
    return TrainingArguments(
        output_dir=str(Path(recipe.output) / CHECKPOINTS),
        num_train_epochs=train.epochs,
        per_device_train_batch_size=train.batch_size,
        gradient_accumulation_steps=1 if train.dp else train.accumulate,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        lr_scheduler_type=train.schedule,
        warmup_steps=train.warmup_steps,
        max_grad_norm=0.0 if train.dp else train.clip,  # with DP each text's gradient is clipped before the sum
        bf16=train.precision == "bf16",
        logging_steps=train.log_every,
        save_steps=train.save_every,
        save_total_limit=2,
        seed=recipe.seed,
        report_to=train.loggers or "none",
        remove_unused_columns=False,
        label_names=["labels"],
        logging_nan_inf_filter=False,  # BlowUpGuard stops instead
        ddp_find_unused_parameters=False,
        use_cpu=use_cpu(),
        dataloader_pin_memory=not use_cpu(),
    )
