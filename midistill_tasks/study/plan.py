"""What a study will do and about what it costs, before anything is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from midistill_tasks.distill.costs.forecast import WEIGHT, spelt_bytes, spelt_time
from midistill_tasks.study.check import check, check_output
from midistill_tasks.study.costs import Costs, costs_of
from midistill_tasks.study.graph import Part
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.work import Work


def plan(study: Study) -> str:
    """The steps, one a line, with seconds where they are known beforehand, and what is done already.

    Raises:
        InputError: as `check_output` and `check`: what the study itself would refuse.
    """
    check_output(study)
    work = Work(study)
    left = work.left(work.parts)
    check(work, left)
    costs = costs_of(work, left)
    lines, total, unknown = [], 0.0, 0
    for part in work.parts:
        step, done = work.step(part), part not in left
        cost = 0.0 if done else step.cost(study, part, costs)
        unknown += cost is None
        total += cost or 0.0
        said = "done" if done else "unknown" if cost is None else f"{cost:.0f} s"
        lines.append(f"  {part.name:<24} {step.what:<30} {said:>9}")
    rest = (
        f", and {unknown} steps of a cost that is not known before their models and texts are here" if unknown else ""
    )
    what = f"about {spelt_time(total)} on this machine{rest}" if left else "nothing is left to do but the report"
    return "\n".join([f"{study.output}: {len(lines)} steps, then the report", *lines, what, *_beside(costs, left)])


def _beside(costs: Costs, left: Sequence[Part]) -> Iterator[str]:
    """How the time was estimated, and what else it takes."""
    trained = [(role, of) for role, of in (("teacher", costs.teacher), ("student", costs.student)) if of]
    for role, training in trained:
        without = " without interventions" if role == "student" else ""
        yield f"  {role}{without}: {training.pace}"
    if costs.passes:
        yield "  attacks: timed two batches of the judged texts, times as often as they read them"
    if costs.memory:
        yield f"memory: {spelt_bytes(costs.memory)}, the most that this process took for that"
    shadows = [part.name.count("/") for part in left if part.step == "shadows"]  # 1: a teacher, 2: a student
    teachers = sum(part.step == "teacher" for part in left) + shadows.count(1)
    disk = WEIGHT * costs.teacher_parameters * teachers
    made = sum(part.step == "train" or "@stop-" in part.name for part in left)
    if costs.student and (students := made + shadows.count(2)):
        disk += students * WEIGHT * costs.student.parameters + 3 * costs.student.checkpoint
    if costs.student and costs.student.states and any(part.step == "train" for part in left):
        disk += costs.student.states
        yield f"the teacher is read once: {spelt_bytes(costs.student.states)} of its hidden states while students learn"
    if disk:
        yield f"disk: up to {spelt_bytes(disk)} for models and the checkpoints of one at a time, beside results"
