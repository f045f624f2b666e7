"""Differential privacy in a recipe: its keys, and the combinations that would promise more than holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from midistill_tasks.methods import Intervention
from midistill_tasks.options import Strict

if TYPE_CHECKING:
    from midistill_tasks.recipes.schema import Recipe, Teacher


class DP(Strict):
    """DP-SGD (Abadi et al. 2016, arXiv 1607.00133): (ε, δ) for adding or removing one text of the training."""

    epsilon: float = Field(8.0, gt=0, le=100, description="ε of the finished training; smaller = more noise")
    delta: float = Field(1e-5, gt=0, lt=1, description="δ; keep it below one over the number of texts")
    max_grad_norm: float = Field(1.0, gt=0, description="norm to which each text's gradient is clipped")


def teacher_reaches(recipe: Recipe) -> bool:
    """Whether the student learns anything from the teacher: by the loss, by layers that it begins with, by what the
    teacher writes."""
    copied = recipe.student.every_nth_layer is not None and not recipe.student.reinitialise
    return recipe.loss.alpha > 0 or copied or recipe.data.generate_from is not None


def check_dp(recipe: Recipe, teacher: Teacher) -> None:
    """Looks at what `train.dp` would promise.

    Args:
        recipe: of the student.
        teacher: its teacher's section; in a study that of the study, which says how the folder was made.

    Raises:
        ValueError: more than holds, or what is not made under DP.
    """
    if recipe.train.dp is None:
        return
    if why := _more_than_holds(recipe, teacher) or _not_made(recipe):
        raise ValueError(f"train.dp: {why}")


def _more_than_holds(recipe: Recipe, teacher: Teacher) -> str:
    if teacher.config:
        return OWN_TOKENIZER
    if teacher.fine_tune and not teacher.dp and teacher_reaches(recipe):
        return UNDEFENDED
    choosing = [each.key for each in recipe.interventions.chosen if _looks_at_members(each)]
    if choosing:
        return (
            f"'{choosing[0]}' chooses the texts by what an attack found in a teacher, or otherwise by their words,"
            " which no noise covers: remove it, or train without dp (random_keep may stay)"
        )
    return ""


UNDEFENDED = (
    "the teacher learnt its texts without dp and teaches them to the student, so nothing would hold: add teacher.dp, or"
    " leave the teacher out (loss.alpha: 0, and no layers copied from it)"
)
OWN_TOKENIZER = (
    "a teacher from 'config' has a tokenizer made of the texts, which no noise covers: give teacher.model, whose"
    " tokenizer is there already"
)


def _looks_at_members(intervention: Intervention) -> bool:
    return type(intervention).keep is not Intervention.keep and intervention.key != "random_keep"


def _not_made(recipe: Recipe) -> str:
    if recipe.data.generate_from:
        return "it would be about what the teacher writes, not about your texts: remove it, and give teacher.dp"
    if recipe.loss.on_policy:
        return "steps on the student's own texts are not made under DP: remove loss.on_policy"
    if recipe.train.precision != "fp32":
        return "the gradients of single texts are made in float32: set train.precision: fp32"
    if recipe.loss.compat:
        return "loss.compat weighs a text by the batch that it is in, so that no text stands alone: remove loss.compat"
    return ""
