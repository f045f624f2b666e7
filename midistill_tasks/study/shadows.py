"""Shadow models of a study: each is a small study of its own, on its own draw of the texts that are judged.

Shadow number k is trained by the study's recipe, with the seed k, on those judged texts for which a coin of k's own
came up heads. Neither the study's coins nor its members decide anything: see `draw`. The shots of the study, which it
neither trains on nor judges, are those of every shadow, so that all models are asked about the same texts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare.shadows.attacks import SCORE
from midistill_tasks.distill.data import text_id
from midistill_tasks.errors import InputError
from midistill_tasks.processes import first_alone, from_first
from midistill_tasks.recipes.schema import Data
from midistill_tasks.study.folders import TEACHER, data_folder, results_folder, selection_folder
from midistill_tasks.study.graph import all_needs
from midistill_tasks.study.options import Evaluate
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.texts import DIVIDED, write_sides
from midistill_tasks.study.work import Work


def shadow_study(study: Study, number: int) -> Study:
    """What shadow `number` is, as a study: below the folder of the one that it is a shadow of."""
    if study.documents is None or study.teacher.fine_tune is None:
        raise InputError(_NEEDS)
    output = f"{study.output}/shadows/{number}"
    data = Data(
        members=f"{output}/data/members.jsonl",
        nonmembers=f"{output}/data/nonmembers.jsonl",
        seed=number,
        max_length=study.documents.tokens,
    )
    own = study.teacher.fine_tune.model_copy(update={"folder": f"{output}/teacher"})
    changes: dict[str, Any] = {
        "output": output,
        "seeds": [number],
        "documents": None,
        "data": data,
        "teacher": study.teacher.model_copy(update={"fine_tune": own}),
        "models": {},
        "controls": {},
        "evaluate": _evaluation(study),
        "shadows": None,
        "frontier": None,
    }
    made = study.model_copy(update=changes)
    chosen = {"selection": str(selection_folder(made))}
    arms = {name: arm.model_copy(update=chosen) if arm.selection else arm for name, arm in study.arms.items()}
    return made.model_copy(update={"arms": arms})


_NEEDS = (
    "shadows: other draws of the texts need 'documents', whose members coins choose, and teachers trained on them "
    "'teacher.fine_tune': give both, or remove 'shadows'"
)


def _evaluation(study: Study) -> Evaluate:
    """The mean log-probabilities, and what an arm may choose its texts by; nothing is kept but ids and scores."""
    attacks = [SCORE, *(name for name in study.select.attacks if name in study.evaluate.chosen)]
    kept = {"log_text": False, "save_stats": None, "independent_coins": False}
    return study.evaluate.model_copy(update={"attacks": list(dict.fromkeys(attacks)), "tasks": [], **kept})


def passes(study: Study) -> float:
    """How often an evaluation of a shadow reads the judged texts, the harness's perplexity included."""
    return len({view for attack in _evaluation(study).chosen for view in ATTACKS[attack].views}) + 0.5


def check_possible(study: Study) -> None:
    """Looks at what shadows need of a study.

    Raises:
        InputError: it has no coins, no fine-tuned teacher or no attack ``loss``, or an arm of a shadow's name.
    """
    shadow_study(study, 0)
    if SCORE not in study.evaluate.chosen:
        raise InputError(f"shadows: they are compared by the attack '{SCORE}': add it to evaluate.attacks")
    if "shadow" in study.arms:
        raise InputError("arms: 'shadow' is the name of the parts of 'shadows': give the arm another one")


def results_of(study: Study, number: int, arm: str | None) -> Path:
    """Where the harness's output about a shadow's teacher is, or about its student of an arm."""
    return results_folder(shadow_study(study, number), f"{arm}/{number}" if arm else TEACHER)


def places(study: Study) -> dict[str, dict[str, list[str]]]:
    """For the report: teacher or arm → where the results of its shadows are, below the study's folder, as far as there.

    Nothing of a study without shadows.
    """
    section = getattr(study, "shadows", None)
    found: dict[str, list[str]] = {}
    for number in range(section.models) if section else ():
        for arm in (None, *study.arms):
            if (folder := results_of(study, number, arm)).exists():
                found.setdefault(arm or TEACHER, []).append(str(folder.relative_to(study.output)))
    return {"shadows": found} if found else {}


def make(work: Work, number: int, arm: str | None) -> None:
    """Trains and scores a shadow's teacher, or its student of an arm, from where an interruption left it.

    Raises:
        InputError: as the study's own steps; a draw that leaves a side empty.
    """
    study = shadow_study(work.study, number)
    first_alone(lambda: _divide(work, study, number))
    own = Work(study)
    name = f"{arm}/{number}" if arm else TEACHER
    wanted = [part for part in own.parts if part.name == name]
    needed = {part.key for each in wanted for part in (each, *all_needs(each, own.parts))}
    for part in own.parts:
        if part.key in needed and not from_first(own.done(part)):
            own.step(part).run(own, part)


def draw(texts: Iterable[str], seed: int, number: int) -> dict[str, bool]:
    """Text → whether shadow `number` is trained on it, by rising id.

    The coin of a text depends on its id (a hash of its words), on the shadow's number and on the seed of the documents
    alone: neither on the other texts nor on who is a member. The study's own coins come from another sequence.
    """
    named = sorted((text_id(text), text) for text in texts)
    return {text: random.Random(f"shadow {number} of {seed}: {name}").random() < 0.5 for name, text in named}


def _divide(work: Work, study: Study, number: int) -> None:
    """Writes the shadow's data; the shots first among the non-members, from where the harness takes them."""
    folder = data_folder(study)
    if (folder / DIVIDED).is_file() or work.study.documents is None:
        return
    judged, shots = (*work.documents.members, *work.documents.nonmembers), work.documents.shots
    drawn = draw(judged, work.study.documents.seed, number)
    sides = {"members": [text for text, seen in drawn.items() if seen]}
    sides["nonmembers"] = [*shots, *(text for text, seen in drawn.items() if not seen)]
    if len(set(drawn.values())) < 2:
        raise InputError(f"shadows: {len(drawn)} texts are too few to be drawn from: give more documents")
    write_sides(folder, sides, {})
