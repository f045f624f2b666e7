"""A recipe: what a distillation run is, read from YAML and checked before anything is loaded."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from midistill_tasks.methods import Intervention
from midistill_tasks.options import Strict
from midistill_tasks.recipes.data import Data as Data
from midistill_tasks.recipes.interventions import Interventions as Interventions
from midistill_tasks.recipes.loss import Loss as Loss
from midistill_tasks.recipes.privacy import DP as DP
from midistill_tasks.recipes.privacy import OWN_TOKENIZER, check_dp


class FineTune(Strict):
    """Trains the teacher on all members first, once for all students that share the folder."""

    folder: str = Field(description="where the fine-tuned teacher is kept, and found again by the next student")
    epochs: int = Field(3, ge=1, description="passes over the members")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the linear schedule")
    batch_size: int = Field(8, ge=1, description="texts a step")


class Cache(Strict):
    """Keeps the teacher's predictions on disk, for any number of students: its `k` largest logits, or `samples`."""

    folder: str = Field(description="where the caches are kept, one sub-folder a teacher, data set and temperature")
    k: int | None = Field(
        128, ge=1, description="logits kept a token; at T 2 the tail is large: 128 of 49k miss 60 % of D"
    )
    samples: int | None = Field(
        None,
        ge=1,
        description="instead of k: draws a token from the teacher's distribution at loss.temperature, such as 96; right"
        " in expectation at any T, for forward KL only",
    )
    seed: int = Field(0, ge=0, description="of the draws")

    @model_validator(mode="before")
    @classmethod
    def _without_k(cls, given: Any) -> Any:
        return {"k": None, **given} if isinstance(given, dict) and given.get("samples") else given

    @model_validator(mode="after")
    def _possible(self) -> Cache:
        if self.k and self.samples:
            raise ValueError("'k' and 'samples' exclude each other: remove one")
        if not (self.k or self.samples):
            raise ValueError("give 'k' or 'samples'")
        if self.seed and not self.samples:
            raise ValueError("'seed' is of the draws: give 'samples', or remove it")
        return self


class Teacher(Strict):
    """The model to distil from."""

    model: str | None = Field(
        None,
        description="any causal LM: a hub id or a folder, perhaps with model_args as the harness's ('path,revision=…,"
        "dtype=…,gguf_file=…,subfolder=…'); absent = the cache alone is used",
    )
    config: dict[str, Any] | None = Field(
        None, description="instead of `model`: a new model of this config, for `fine_tune` to train from nothing"
    )
    revision: str | None = Field(None, description="of the hub model")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="of the teacher's weights")
    quantize: Literal["8bit", "4bit"] | None = Field(
        None, description="loads it through bitsandbytes (GPU only; never run by our tests)"
    )
    fine_tune: FineTune | None = Field(None, description="trains the teacher on all members first")
    dp: DP | None = Field(None, description="makes `fine_tune` differentially private (needs midistill[dp])")
    cache: Cache | None = Field(None, description="trains the student from what is kept of the teacher on disk")

    @model_validator(mode="after")
    def _possible(self) -> Teacher:
        if self.model and self.config:
            raise ValueError("'model' and 'config' exclude each other: remove one")
        if self.config and not self.fine_tune:
            raise ValueError("a teacher from 'config' has learnt nothing: add 'fine_tune'")
        if self.config and "model_type" not in self.config:
            raise ValueError("'config' needs its 'model_type', such as gpt_neox")
        if self.dp and not self.fine_tune:
            raise ValueError("'dp' is of the fine-tuning on the members: add 'fine_tune', or remove it")
        if self.dp and self.config:
            raise ValueError(f"'dp': {OWN_TOKENIZER}")
        if not (self.model or self.config or self.cache):
            raise ValueError("give 'model', or 'config' with 'fine_tune', or the 'cache' of an earlier run")
        return self


class Lora(Strict):
    """Trains low-rank adapters only; the saved student has them merged in."""

    rank: int = Field(8, ge=1, description="of each adapter")
    alpha: int = Field(16, ge=1, description="scale of the adapters, times 1/rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="before each adapter")


class Student(Strict):
    """The model to train: one of `config`, `checkpoint`, `every_nth_layer`."""

    config: str | dict[str, Any] | None = Field(
        None, description="a hub id or folder whose config.json to use, or the config itself with its model_type"
    )
    checkpoint: str | None = Field(None, description="a hub id or folder of a causal LM; as teacher.model")
    every_nth_layer: int | None = Field(None, ge=1, description="the teacher with layers 0, n, 2n, … only")
    reinitialise: bool = Field(True, description="start from random weights, as the paper does")
    lora: Lora | None = Field(None, description="LoRA instead of full training (needs `reinitialise: false`)")

    @model_validator(mode="after")
    def _possible(self) -> Student:
        given = [name for name in ("config", "checkpoint", "every_nth_layer") if getattr(self, name) is not None]
        if len(given) != 1:
            names = " and ".join(given) if given else "none"
            raise ValueError(f"give exactly one of 'config', 'checkpoint', 'every_nth_layer' (found {names})")
        if self.config is not None and not self.reinitialise:
            raise ValueError("a 'config' has no weights to keep: remove 'reinitialise: false' or use 'checkpoint'")
        if isinstance(self.config, dict) and "model_type" not in self.config:
            raise ValueError("'config' needs its 'model_type', such as gpt_neox")
        if self.lora and self.reinitialise:
            raise ValueError("LoRA on random weights learns little: add 'reinitialise: false' or remove 'lora'")
        return self


class Train(Strict):
    """The optimisation; the defaults are the paper's."""

    epochs: int = Field(30, ge=1, description="passes over the texts")
    batch_size: int = Field(8, ge=1, description="texts a step and process")
    accumulate: int = Field(1, ge=1, description="batches summed into one step")
    learning_rate: float = Field(1e-3, gt=0, description="peak, AdamW")
    weight_decay: float = Field(0.01, ge=0, description="AdamW")
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field("linear", description="after the warm-up")
    warmup_steps: int = Field(500, ge=0, description="steps until the peak")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient; with `dp` that of each text instead")
    dp: DP | None = Field(None, description="makes the training differentially private (needs midistill[dp])")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="of the student's forward and backward; weights, loss and optimizer stay in float32"
    )
    log_every: int = Field(50, ge=1, description="steps between log lines")
    save_every: int = Field(500, ge=1, description="steps between checkpoints, from which --resume goes on")
    keep_checkpoints: bool = Field(
        False, description="keep the last two, with the optimizer's state, beside the finished student"
    )
    audit_every: int = Field(500, ge=1, description="steps between measurements of perplexity and membership leakage")
    audit_texts: int = Field(200, ge=2, description="members, and as many non-members, that they use")
    loggers: list[str] = Field(default_factory=list, description="of transformers: tensorboard, wandb, …")


class Recipe(Strict):
    """A whole run."""

    output: str = Field(description="folder of the student; it must not hold another run")
    seed: int = Field(
        0, ge=0, description="of the student's weights, the order of the texts, random_drop and random_keep"
    )
    teacher: Teacher
    student: Student
    data: Data
    loss: Loss = Field(default_factory=Loss)
    interventions: Interventions = Field(default_factory=Interventions)
    train: Train = Field(default_factory=Train)

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        no_teacher = self.teacher.model is None and self.teacher.config is None
        if no_teacher and self.student.every_nth_layer is not None:
            raise ValueError("student.every_nth_layer takes layers from the teacher: give teacher.model")
        if self.teacher.cache and self.loss.compat:
            raise ValueError("loss.compat needs the whole teacher: remove teacher.cache")
        if self.loss.alpha == 0 and self.teacher.cache:
            raise ValueError("loss.alpha 0 never looks at the teacher: remove teacher.cache")
        if self.teacher.cache and self.loss.on_policy:
            raise ValueError("loss.on_policy asks the teacher about texts that no cache holds: remove teacher.cache")
        if self.data.generate_from and no_teacher:
            raise ValueError("data.generate_from: without a teacher nobody writes: give teacher.model")
        if self.interventions.selection and (self.data.distil_on or self.data.generate_from):
            key = "distil_on" if self.data.distil_on else "generate_from"
            raise ValueError(f"interventions.selection divides the members: remove data.{key}")
        if self.teacher.cache and self.teacher.cache.samples and self.loss.divergence != "forward_kl":
            raise ValueError(
                f"loss.divergence: of '{self.loss.divergence}' draws of the teacher tell nothing unbiased: take"
                " forward_kl, or teacher.cache.k in place of samples"
            )
        for each in self.interventions.chosen:
            if not self.student.reinitialise and type(each).resize is not Intervention.resize:
                raise ValueError(
                    f"interventions.{each.key} changes the width of the student's layers, so none can be copied into"
                    " them: set student.reinitialise: true, or leave out this control"
                )
        check_dp(self, self.teacher)
        return self
