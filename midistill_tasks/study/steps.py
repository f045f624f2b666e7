"""The steps of a study. Each writes one folder that exists, whole, once the step is done; so a killed study goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from midistill_tasks.distill.data import Texts, load_texts, text_id
from midistill_tasks.distill.fine_tune import MADE, fine_tuned_teacher
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.distill.run_folder import RECIPE, RECORD
from midistill_tasks.distill.selection import choose_attacks, select, write_selection
from midistill_tasks.processes import processes, use_cpu
from midistill_tasks.recipes.schema import Recipe
from midistill_tasks.results.reader import read_attacks
from midistill_tasks.study.evaluate import Harness
from midistill_tasks.study.recipe import Study
from midistill_tasks.study.texts import DIVIDED, divide, study_data, teachers_texts

TEACHER = "teacher"


@dataclass(frozen=True)
class Step:
    """A part of a study.

    Attributes:
        part: `TEACHER`, or ``ARM/SEED``.
        what: for people.
        written: exists once the step is done.
        work: does it; every process of a `torchrun` calls it.
    """

    part: str
    what: str
    written: Path
    work: Callable[[], None]

    @property
    def done(self) -> bool:
        """Whether it need not be run again."""
        return self.written.exists()


def steps(study: Study, harness: Harness) -> list[Step]:
    """All of them, in their order; the report, which is always written anew, is none."""
    root = Path(study.output)
    found = []
    if study.documents:
        found.append(Step(TEACHER, "divide the documents", root / "data" / DIVIDED, _first(lambda: divide(study))))
    fine_tune = study.teacher.fine_tune
    if fine_tune:
        found.append(Step(TEACHER, "train on the members", Path(fine_tune.folder) / MADE, lambda: _fine_tune(study)))
    revision = None if fine_tune else study.teacher.revision
    attack = _evaluation(harness, teacher_model(study), results_folder(study, TEACHER), revision)
    found.append(Step(TEACHER, "evaluate", results_folder(study, TEACHER), attack))
    if any(arm.selection for arm in study.arms.values()):
        written = root / "selection" / "selection.json"
        found.append(Step(TEACHER, "select the vulnerable members", written, _first(lambda: _select(study))))
    for name, model in study.models.items():
        found.append(_evaluate(study, harness, f"{name}/0", model))
    for arm in study.arms:
        for seed in study.seeds:
            found += _student(study, harness, arm, seed)
    return found


def teacher_model(study: Study) -> str:
    """Hub id or folder of the teacher that is evaluated and distilled."""
    return study.teacher.fine_tune.folder if study.teacher.fine_tune else str(study.teacher.model)


def results_folder(study: Study, part: str) -> Path:
    """Where the harness's output about a part is."""
    return Path(study.output) / "results" / part


def make_teacher(study: Study, folder: str, texts: Texts) -> None:
    """Trains the study's teacher on these texts into the folder, unless it is there."""
    assert study.teacher.fine_tune is not None  # noqa: S101 (asked for where it is)
    fine_tune = study.teacher.fine_tune.model_copy(update={"folder": folder})
    fine_tuned_teacher(study.teacher, fine_tune, study_data(study), texts)


def student_recipe(study: Study, arm: str, seed: int) -> Recipe:
    """What `midistill distill` would be given for one student."""
    assert study.student is not None  # noqa: S101 (checked by Study)
    return Recipe(
        output=str(Path(study.output) / "students" / arm / str(seed)),
        seed=seed,
        teacher=study.teacher.model_copy(update={"model": teacher_model(study), "config": None, "fine_tune": None}),
        student=study.student,
        data=study_data(study),
        loss=study.loss,
        interventions=study.arms[arm],
        train=study.train,
    )


def _student(study: Study, harness: Harness, arm: str, seed: int) -> list[Step]:
    part, folder = f"{arm}/{seed}", Path(study.output) / "students" / arm / str(seed)

    def train() -> None:
        run_recipe(student_recipe(study, arm, seed), resume=(folder / RECIPE).is_file())

    return [Step(part, "train", folder / RECORD, train), _evaluate(study, harness, part, str(folder))]


def _evaluate(study: Study, harness: Harness, part: str, model: str) -> Step:
    folder = results_folder(study, part)
    return Step(part, "evaluate", folder, _evaluation(harness, model, folder))


def _evaluation(harness: Harness, model: str, folder: Path, revision: str | None = None) -> Callable[[], None]:
    """On CPU the harness does not share its work among processes, so that one does it all."""
    work = lambda: harness.evaluate(model, folder, revision)  # noqa: E731
    return _first(work) if use_cpu() else work


def _first(work: Callable[[], None]) -> Callable[[], None]:
    """The work, done by the first process while the others wait."""

    def run() -> None:
        if processes().is_main_process:
            work()
        processes().wait_for_everyone()

    return run


def _fine_tune(study: Study) -> None:
    make_teacher(study, teacher_model(study), teachers_texts(study))


def _select(study: Study) -> None:
    """As `midistill select`. Members that no attack judged (the harness balances the sides) count as not vulnerable."""
    results = choose_attacks(read_attacks([results_folder(study, TEACHER)]), study.select.attacks)
    selection = select(results, study.select.vote)
    judged = next(iter(results.values())).by_id
    members = {text_id(text): text for text in load_texts(study_data(study)).members}
    unjudged = {name: text for name, text in members.items() if name not in judged}
    chosen = replace(selection, non_vulnerable=selection.non_vulnerable | unjudged)
    how = {"vote": study.select.vote, "attacks": list(results), "not_judged": len(unjudged)}
    write_selection(chosen, Path(study.output) / "selection", how)
