"""What a run was made of and what came out, for the output folder."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from midistill_tasks.distill.dp.guarantee import privacy
from midistill_tasks.distill.lora import n_parameters_saved
from midistill_tasks.distill.run_folder import RECORD
from midistill_tasks.files import write_atomically
from midistill_tasks.recipes.schema import Recipe

PACKAGES = (
    "midistill",
    "torch",
    "transformers",
    "accelerate",
    "tokenizers",
    "datasets",
    "safetensors",
    "peft",
    "opacus",
)


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        versions: of Python and the packages.
        seeds: of the run and of the draw of texts.
        hashes: xxh3-128 of teacher weights, tokenizer and token ids.
        counts: texts used and left out; ``tokens`` of an epoch, each scored once by the loss.
        processes: that trained together.
        epochs: passes over the texts.
        steps: of the optimiser.
        parameters: of the student as it is saved.
        trained_parameters: those that the optimiser changed, LoRA's adapters among them.
        adapted: what of the stock model is another: LoRA, and interventions that change the model.
        measured: the last figures of the student next to the teacher's, perplexities on all held-out texts as the
            harness has them; empty without non-members. Older records have a token's on cut texts instead.
        log: the Trainer's log lines, with the figures of a sample (`train.audit_texts`).
        dp: ``guarantee`` in words, what the ``student``'s training spent and what each of ``before``'s did (the models
            that it has something of, by folder); None without DP.
    """

    versions: dict[str, str]
    seeds: dict[str, int]
    hashes: dict[str, str]
    counts: dict[str, int]
    processes: int
    epochs: int
    steps: int
    parameters: int
    trained_parameters: int
    adapted: list[str]
    measured: dict[str, float]
    log: list[dict[str, float]]
    dp: dict[str, Any] | None = None

    def write(self, folder: Path) -> None:
        """Writes ``midistill.json``, whose presence says that the run is finished."""
        write_atomically(folder / RECORD, json.dumps(asdict(self), indent=2) + "\n")


def make_record(
    recipe: Recipe, trainer: Any, hashes: dict[str, str], counts: dict[str, int], measured: dict[str, float]
) -> Record:
    """The record of a `DistillationTrainer` that has trained."""
    return Record(
        versions={"python": platform.python_version(), **installed_versions()},
        seeds={"run": recipe.seed, "data": recipe.data.seed},
        hashes=hashes,
        counts=counts,
        processes=trainer.args.world_size,
        epochs=recipe.train.epochs,
        steps=trainer.state.global_step,
        parameters=n_parameters_saved(trainer.model),
        trained_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        adapted=[
            *(["lora"] if recipe.student.lora else []),
            *(each.key for each in recipe.interventions.chosen if each.changes_model),
        ],
        measured=measured,
        log=trainer.state.log_history,
        dp=privacy(recipe, trainer.spent(), counts["trained_on"]),
    )


def installed_versions() -> dict[str, str]:
    """Of `PACKAGES`, those that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
