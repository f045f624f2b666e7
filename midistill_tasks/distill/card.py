"""The student's model card."""

from __future__ import annotations

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from midistill_tasks.distill.callbacks.leakage import FIGURES
from midistill_tasks.distill.record import Record
from midistill_tasks.files import write_atomically
from midistill_tasks.recipes.file import dump_recipe
from midistill_tasks.recipes.schema import Recipe

MEANING = {
    "heldout_byte_perplexity": "perplexity a byte on non-members, whole (lower = a better model), as `heldout_…`",
    "heldout_word_perplexity": "the same, a word",
    "loss_auroc": "AUROC of the loss attack (0.5 = no leak)",
    "loss_member_acc": "members that the loss attack finds (threshold cross-fitted)",
}


def write_card(folder: Path, recipe: Recipe, record: Record) -> None:
    """Writes ``README.md``: what was done, what was measured, how to load the student, what not to conclude."""
    environment = Environment(  # noqa: S701 (Markdown, not HTML)
        loader=PackageLoader("midistill_tasks.distill"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    rows = [
        (MEANING[name], record.measured[f"student_{name}"], record.measured.get(f"teacher_{name}"))
        for name in FIGURES
        if f"student_{name}" in record.measured
    ]
    text = environment.get_template("card.md.jinja").render(
        name=folder.resolve().name,
        recipe=recipe,
        record=record,
        rows=rows,
        teacher=recipe.teacher.model or (recipe.teacher.fine_tune or recipe.teacher.cache).folder,  # type: ignore[union-attr]
        interventions=recipe.interventions.model_dump(exclude_defaults=True),
        recipe_yaml=dump_recipe(recipe),
        config=json.loads((folder / "config.json").read_text(encoding="utf-8")),
    )
    write_atomically(folder / "README.md", text)
