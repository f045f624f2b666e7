"""What the weights of a student guarantee about the texts that were trained on, in one sentence; and who refuses more.

A model that learns from a DP model, and from nothing else about its texts, keeps its guarantee (post-processing). What
is trained on the texts of a DP model again, under DP, has the sum of both (basic composition). Without DP anywhere on
the way nothing holds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from midistill_tasks.distill.dp.accounting import check_ready
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.privacy import OWN_TOKENIZER, UNDEFENDED, teacher_reaches
from midistill_tasks.recipes.schema import DP, Recipe

MADE = "midistill_teacher.json"
"""In the folder of a teacher that was fine-tuned here: how."""
WEIGHTS_ONLY = (
    "This is about the weights: what was measured on the texts (the log, AUROCs, this record) has no noise, and may"
    " give texts away where it is published."
)


def origins(recipe: Recipe) -> dict[str, str]:
    """Key of the recipe → hub id or folder of the models of which the student has something."""
    found = {}
    if teacher_reaches(recipe):
        teacher = recipe.teacher
        found["teacher.model"] = (
            teacher.fine_tune.folder if teacher.fine_tune else teacher.model or "the teacher of teacher.cache"
        )
    if recipe.student.checkpoint and not recipe.student.reinitialise:
        found["student.checkpoint"] = recipe.student.checkpoint
    return found


def made_of(model: str) -> dict[str, Any] | None:
    """How a folder's teacher was fine-tuned here; None of what is no such folder."""
    try:
        read: dict[str, Any] = json.loads((Path(model.partition(",")[0]) / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read


def check_run(recipe: Recipe) -> None:
    """Looks, before any work, at what a recipe with DP needs and promises.

    Raises:
        InputError: as `check_ready` and `check_origins`.
    """
    for key, dp in (("teacher.dp", recipe.teacher.dp), ("train.dp", recipe.train.dp)):
        if dp:
            check_ready(key)
    check_origins(recipe)


def check_origins(recipe: Recipe) -> None:
    """Looks into the folders of the models that a student under DP has something of.

    Raises:
        InputError: one of them learnt its texts without DP, or has a tokenizer that was made of them.
    """
    if recipe.train.dp is None:
        return
    folders = {"teacher.model": recipe.teacher.model, **origins(recipe)}
    made = {key: found for key, model in folders.items() if model and (found := made_of(model))}
    for key, found in made.items():
        if found["teacher"].get("config"):
            raise InputError(f"train.dp: {OWN_TOKENIZER} ({key})")
        if key in origins(recipe) and not found.get("dp"):
            why = UNDEFENDED if key == "teacher.model" else "it learnt its texts without dp: begin with another model"
            raise InputError(f"train.dp: {key} ({folders[key]}): {why}")


def privacy(recipe: Recipe, spent: dict[str, Any] | None, texts: int) -> dict[str, Any] | None:
    """For the record: the guarantee, what the student's training spent, and those before it; None without DP."""
    said = guarantee(recipe, texts)
    made = ((model, made_of(model) or {}) for model in dict.fromkeys(origins(recipe).values()))
    before = {model: found["spent"] for model, found in made if "spent" in found}
    return {"guarantee": said, "student": spent, "before": before} if said else None


def guarantee(recipe: Recipe, texts: int) -> str:
    """The sentences of record and card; "" where there is no DP anywhere.

    Args:
        recipe: whose teacher is in its folder, fine-tuned.
        texts: that the student was trained on.
    """
    models = list(dict.fromkeys(origins(recipe).values()))
    made = {model: found for model in models if (found := made_of(model))}
    earlier = [DP.model_validate(found["dp"]) for found in made.values() if found.get("dp")]
    if not earlier and not recipe.train.dp:
        return ""
    if undefended := [model for model, found in made.items() if not found.get("dp")]:
        return (
            f"Nothing is guaranteed about any text: {' and '.join(undefended)}, of which the student has something,"
            " learnt its texts without DP."
        )
    bases = [made[model]["teacher"]["model"] if model in made else model for model in models]
    if said := _promised(recipe, earlier, texts):
        never = f", provided that {' and '.join(dict.fromkeys(bases))} never saw it" if bases else ""
        return f"{said}{never}. {WEIGHTS_ONLY}"
    return (
        "Nothing is guaranteed about any text: the student was trained on the texts themselves without DP, although"
        f" its teacher is {_dp(*earlier)} for them."
    )


def _promised(recipe: Recipe, earlier: list[DP], texts: int) -> str:
    own, others, writes = recipe.train.dp, recipe.data.distil_on is not None, recipe.data.generate_from
    if own and earlier and others:
        return (
            f"The student is {_dp(*earlier)} for each text that its teacher alone was trained on, {_dp(own)} for each"
            f" of the {texts} texts of data.distil_on, and {_dp(*earlier, own)} for one that both saw"
        )
    if writes:
        begun = "; about the texts of data.generate_from.beginnings nothing is guaranteed" if writes.beginnings else ""
        return f"The student is {_dp(*earlier)} for each text that its teacher was trained on{begun}"
    if own:
        how = f" ({' and '.join(map(_dp, (*earlier, own)))} of two trainings, added up)" if earlier else ""
        return f"The student is {_dp(*earlier, own)} for each of the {texts} texts that it was trained on{how}"
    if others:
        return (
            f"The student is {_dp(*earlier)} for each text that its teacher was trained on, if data.distil_on does not"
            " hold it; about the texts of data.distil_on nothing is guaranteed"
        )
    return ""


def _dp(*trainings: DP) -> str:
    """Of all of them together, by basic composition."""
    return f"({sum(dp.epsilon for dp in trainings):g}, {sum(dp.delta for dp in trainings):g})-DP"
