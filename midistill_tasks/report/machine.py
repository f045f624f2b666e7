"""The page for programs: report.json, with its answers, warnings and tables, numbers as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from midistill_tasks import __version__
from midistill_tasks.errors import InputError
from midistill_tasks.files import write_atomically
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.report.page import Page
from midistill_tasks.results.roles import Entry, Group
from midistill_tasks.results.run import AttackResult, Published, Run, Utility
from midistill_tasks.results.schema import SCHEMA_VERSION
from midistill_tasks.results.table import Cell, Table, key_of

JSON = "report.json"


class Number(BaseModel):
    """A figure; null where it is not defined."""

    value: float | None
    stderr: float | None = Field(None, description="standard error")
    lower: float | None = Field(None, description="95 % limits")
    upper: float | None = None


class PublishedRow(BaseModel):
    """Of ``mia_strongest_<split>``: the row to publish."""

    auroc: Number
    tpr_at_1pct_fpr: Number
    blind_auroc: Number
    attacks: list[str] = Field(description="by which the two halves of the texts are judged")


class AttackFigures(BaseModel):
    """One attack on one model over one split."""

    split: str
    attack: str
    members: int
    nonmembers: int
    figures: dict[str, Number] = Field(description="by the harness's metric names")
    blind_auroc: Number
    data_sha256: str


class UtilityFigure(BaseModel):
    """A figure of another task of the run."""

    value: float | None
    stderr: float | None
    higher_is_better: bool


class ModelRun(BaseModel):
    """One evaluation of one model."""

    model: str
    date: str
    results_file: str
    parameters: int | None
    published: dict[str, PublishedRow] = Field(description="by split")
    attacks: list[AttackFigures]
    utility: dict[str, UtilityFigure] = Field(description="by task/metric")


class Model(BaseModel):
    """A model of the page, or an arm of students that differ by their seed only."""

    name: str
    role: Literal["teacher", "student", "model"]
    runs: list[ModelRun]


class Answer(BaseModel):
    """What the page says of a model or an arm."""

    about: str
    word: str
    sentence: str


class TableData(BaseModel):
    """A table of the page."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[str | int | float | Number | None]]


class Report(BaseModel):
    """report.json"""

    schema_version: int
    midistill: str = Field(description="the version that wrote it")
    title: str
    lead: str
    answers: list[Answer]
    next: list[str] = Field(description="what to do now")
    warnings: list[str]
    models: list[Model]
    tables: list[TableData]


def report_of(page: Page, group: Group) -> Report:
    """The page's content."""
    return Report(
        schema_version=SCHEMA_VERSION,
        midistill=__version__,
        title=page.title,
        lead=page.lead,
        answers=[Answer(about=one.about, word=one.word, sentence=one.sentence) for one in page.statements],
        next=list(page.next),
        warnings=list(page.warnings),
        models=[_model(entry, group) for entry in group.entries],
        tables=[_table(table) for table in page.files],
    )


def write_json(page: Page, group: Group, folder: Path) -> Path:
    """Writes `JSON` into the folder."""
    write_atomically(folder / JSON, report_of(page, group).model_dump_json(indent=1) + "\n")
    return folder / JSON


def keep_json(page: Page, group: Group, folder: Path, wanted: bool = False) -> Path | None:
    """Writes it where it is wanted, or where there is one: that of an earlier page would have other figures."""
    return write_json(page, group, folder) if wanted or (folder / JSON).exists() else None


def read_report(path: str | Path) -> Report:
    """What `midistill report --json` wrote.

    Args:
        path: report.json, or the folder that holds it.

    Raises:
        InputError: it is no such file, or of a later version.
    """
    file = Path(path) / JSON if Path(path).is_dir() else Path(path)
    try:
        report = Report.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{file} is no report.json ({str(error).splitlines()[0]}): run `midistill report --json`"
        ) from None
    if report.schema_version > SCHEMA_VERSION:
        raise InputError(
            f"{file} has schema_version {report.schema_version}, this midistill reads {SCHEMA_VERSION}: update"
        )
    return report


def _model(entry: Entry, group: Group) -> Model:
    role: Literal["teacher", "student", "model"] = "student" if group.teacher else "model"
    return Model(
        name=entry.name, role="teacher" if entry is group.teacher else role, runs=[_run(run) for run in entry.runs]
    )


def _run(run: Run) -> ModelRun:
    size = run.config.get("model_num_parameters")
    return ModelRun(
        model=run.model,
        date=run.date,
        results_file=str(run.path),
        parameters=size if isinstance(size, int) else None,
        published={split: _published(row) for split, row in run.published.items()},
        attacks=[_attack(result) for result in run.tasks.values()],
        utility={name: _utility(figure) for name, figure in run.utility.items()},
    )


def _published(row: Published) -> PublishedRow:
    return PublishedRow(
        auroc=_number(row.auroc),
        tpr_at_1pct_fpr=_number(row.tpr),
        blind_auroc=_number(row.blind),
        attacks=list(row.attacks),
    )


def _attack(result: AttackResult) -> AttackFigures:
    limits: Mapping[str, Interval] = result.intervals
    return AttackFigures(
        split=result.split,
        attack=result.attack,
        members=int(result.labels.sum()),
        nonmembers=int((~result.labels).sum()),
        figures={
            name: Number(**_number(limits[name]).model_dump(exclude={"stderr"}), stderr=_known(figure.stderr))
            for name, figure in result.measured.items()
        },
        blind_auroc=_number(result.blind),
        data_sha256=str(result.metadata["data_sha256"]),
    )


def _utility(figure: Utility) -> UtilityFigure:
    value, stderr = _known(figure.value), _known(figure.stderr)
    return UtilityFigure(value=value, stderr=stderr, higher_is_better=figure.higher_is_better)


def _table(table: Table) -> TableData:
    return TableData(
        name=table.name,
        title=table.title,
        columns=[key_of(column) for column in table.columns],
        rows=[[_cell(cell) for cell in row] for row in table.rows],
    )


def _cell(cell: Cell) -> str | int | float | Number | None:
    if isinstance(cell, (Estimate, Interval)):
        return _number(cell)
    return _known(cell) if isinstance(cell, float) else cell


def _number(figure: Estimate | Interval) -> Number:
    if isinstance(figure, Interval):
        return Number(value=_known(figure.value), lower=_known(figure.lower), upper=_known(figure.upper))
    return Number(value=_known(figure.value), stderr=_known(figure.stderr))


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
