"""Where the things of a study are: below its folder, but for what the recipe says otherwise."""

from __future__ import annotations

from pathlib import Path

from midistill_tasks.files import unused, writing
from midistill_tasks.study.recipe import Study

TEACHER = "teacher"
"""The name of what is done before the students, and of the teacher's results."""


def teacher_model(study: Study) -> str:
    """Hub id or folder of the teacher that is evaluated and distilled."""
    return study.teacher.fine_tune.folder if study.teacher.fine_tune else str(study.teacher.model)


def results_folder(study: Study, name: str) -> Path:
    """Where the harness's output about the teacher, or about ``ARM/SEED``, is."""
    return Path(study.output) / "results" / name


def student_folder(study: Study, name: str) -> Path:
    """Where the student ``ARM/SEED`` is."""
    return Path(study.output) / "students" / name


def selection_folder(study: Study) -> Path:
    """Where it stands which members are vulnerable."""
    return Path(study.output) / "selection"


def data_folder(study: Study) -> Path:
    """Where the texts are that were made of documents."""
    return Path(study.output) / "data"


def states_folder(study: Study) -> Path:
    """Where the teacher's hidden states are, as long as students are trained on them."""
    return Path(study.output) / "teacher-states"


def set_aside(study: Study, path: Path) -> Path:
    """Moves what stands below the study's folder to ``earlier/`` there, where no report looks; its new place."""
    new = unused(Path(study.output) / "earlier" / path.relative_to(study.output))
    with writing(f"output: {new}"):
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    return new
