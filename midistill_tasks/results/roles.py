"""Which runs a report shows, and in which roles: a teacher, and arms of students that differ by their seed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ValidationError

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.results.matching import mostly_scored
from midistill_tasks.results.reader import read_run, read_runs
from midistill_tasks.results.run import AttackResult, Run

MANIFEST = "study.json"
"""Written by `midistill study` into its folder: where each model's results are, and what they are to each other."""


class Trained(BaseModel):
    """What one student was trained on, and what of it; None where an older version wrote no such thing."""

    texts: int | None = None
    tokens: int | None = None
    epochs: int | None = None
    steps: int | None = None
    parameters: int | None = None
    trained_parameters: int | None = None
    adapted: tuple[str, ...] | None = None
    guarantee: str | None = None


class _FrontierPlaces(BaseModel):
    """Seed → what was changed, in words → where the results are, by how much training each had."""

    arm: str
    stopped: dict[str, dict[str, str]]
    fewer: dict[str, dict[str, str]]


class _Manifest(BaseModel):
    """What `MANIFEST` holds."""

    teacher: str
    arms: dict[str, dict[str, str]]
    controls: dict[str, str] = {}
    failed: list[str] = []
    trained: dict[str, dict[str, Trained]] = {}
    frontier: _FrontierPlaces | None = None
    shadows: dict[str, list[str]] = {}


@dataclass(frozen=True)
class Entry:
    """A model of the page, or an arm of students."""

    name: str
    runs: tuple[Run, ...]

    def results(self, split: str, attack: str) -> list[AttackResult]:
        """Of each run; empty where one of the runs lacks the attack."""
        results = [run.on(split).get(attack) for run in self.runs]
        return [result for result in results if result is not None] if None not in results else []

    def attacks(self, split: str) -> list[str]:
        """Those that all of its runs have."""
        return [name for name in self.runs[0].on(split) if all(name in run.on(split) for run in self.runs)]

    def on(self, split: str) -> list[dict[str, AttackResult]]:
        """Attack → result of each run, of the attacks that all of them have; but those that lack a score for more than
        half of the texts stand back where there are others, as in comparisons: a few texts would hide what many show.
        """
        by_attack = {name: self.results(split, name) for name in self.attacks(split)}
        attacks = [name for name, results in by_attack.items() if all(map(mostly_scored, results))] or list(by_attack)
        return [{name: run.on(split)[name] for name in attacks} for run in self.runs]


@dataclass(frozen=True)
class Frontier:
    """Students of the vanilla arm with less training, which are no arms: the trivial defences.

    Attributes:
        arm: the vanilla arm; its own students are the end of both.
        stopped: seed → those of its training's checkpoints, by rising steps.
        fewer: seed → those that were trained on a part of the texts, by the rising size of that part.
    """

    arm: str
    stopped: Mapping[str, tuple[Run, ...]]
    fewer: Mapping[str, tuple[Run, ...]]

    def defences(self, seed: str) -> dict[str, tuple[Run, ...]]:
        """Name → the runs of a seed, those that there are."""
        both = {"stopped": self.stopped.get(seed, ()), "fewer": self.fewer.get(seed, ())}
        return {name: runs for name, runs in both.items() if runs}


@dataclass(frozen=True)
class Group:
    """All that a report shows.

    Attributes:
        teacher: None where the models stand side by side.
        arms: the others, in order.
        controls: arm → the arm that it is to be read against.
        failed: what a study could not do, in words.
        trained: of a study: arm → seed → what that student was trained on.
        frontier: of a study that has one.
        shadows: of a study that has some: ``teacher`` or arm → their runs, whose labels say what each shadow saw.
    """

    teacher: Entry | None
    arms: tuple[Entry, ...]
    controls: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    trained: Mapping[str, Mapping[str, Trained]] = field(default_factory=dict)
    frontier: Frontier | None = None
    shadows: Mapping[str, tuple[Run, ...]] = field(default_factory=dict)

    @property
    def teacher_run(self) -> Run:
        """Of the teacher.

        Raises:
            InputError: where the models stand side by side.
        """
        if self.teacher is None:
            raise InputError(
                f"none of {', '.join(entry.name for entry in self.arms)} was named as the teacher: name it"
            )
        return self.teacher.runs[0]

    @property
    def entries(self) -> list[Entry]:
        """The teacher first."""
        return [*([self.teacher] if self.teacher else []), *self.arms]

    @property
    def runs(self) -> list[Run]:
        """Of all entries."""
        return [run for entry in self.entries for run in entry.runs]

    @property
    def splits(self) -> list[str]:
        """Every split on which all runs of at least one of the entries have an attack in common."""
        named = dict.fromkeys(split for run in self.runs for split in run.splits)
        return [name for name in named if any(entry.attacks(name) for entry in self.entries)]


def read_group(places: Sequence[str | Path], teacher: str | None = None) -> Group:
    """The runs under the given places; a study's folder says itself which is the teacher and which are one arm.

    Args:
        places: folders or files of the harness's results, or one folder of a study. ``NAME=FOLDER`` makes the runs
            there an arm of that name: students that differ by their seed only.
        teacher: name, folder or end of the path of the model that the others are compared with.

    Raises:
        InputError: as `reader.read_runs`; also where `teacher` is none of the models or several, or a model is given
            twice.
    """
    named = [named_place(str(place)) for place in places]
    studies = [path for _, path in named if (Path(path) / MANIFEST).is_file()]
    if studies and (len(places) > 1 or teacher or named[0][0]):
        raise InputError(
            f"{studies[0]} is a study, which says itself who is the teacher: use `midistill report {studies[0]}`"
        )
    if studies:
        return _of_study(Path(studies[0]))
    entries, failed = _entries(named)
    chosen = None if teacher is None else _find(teacher, entries)
    others = tuple(_renamed(entry) for entry in entries if entry is not chosen)
    return Group(None if chosen is None else _renamed(chosen), others, failed=failed)


def named_place(place: str) -> tuple[str, str]:
    """Name and path of ``NAME=FOLDER``; no name where there is none, or where that is a path itself."""
    name, equals, path = place.partition("=")
    return (name, path) if equals and not Path(place).exists() else ("", place)


def _entries(places: Sequence[tuple[str, str]]) -> tuple[list[Entry], tuple[str, ...]]:
    """The models without a name of their own, then the arms; and the runs without a figure, in words."""
    arms: dict[str, list[Run]] = {}
    runs: list[Run] = []
    failed: list[str] = []
    for name, path in places:
        under = read_runs(path)
        failed += [f"{run.path}: {run.why_unusable}" for run in under if not run.tasks]
        if all(not run.tasks for run in under):
            raise InputError(failed[-1])
        (arms.setdefault(name, []) if name else runs).extend(run for run in under if run.tasks)
    seen: set[Path] = set()
    for run in (*runs, *(run for students in arms.values() for run in students)):
        if run.path.resolve() in seen:
            raise InputError(f"{run.path} is given twice: to compare two runs of one model, give their results_*.json")
        seen.add(run.path.resolve())
    entries = [Entry(name, (run,)) for name, run in zip(_names(runs), runs, strict=True)]
    both = sorted({entry.name for entry in entries} & arms.keys())
    if both:
        raise InputError(f"'{both[0]}' is the name of a model and of an arm ({both[0]}=…): give the arm another name")
    return [*entries, *(Entry(name, tuple(students)) for name, students in arms.items())], tuple(failed)


def _renamed(entry: Entry) -> Entry:
    """Its runs under names that fit a table; where their models are, `Run.config` says."""
    if len(entry.runs) == 1:
        return Entry(entry.name, (replace(entry.runs[0], model=entry.name),))
    return Entry(
        entry.name,
        tuple(replace(run, model=f"{entry.name}, run {number}") for number, run in enumerate(entry.runs, 1)),
    )


def _of_study(folder: Path) -> Group:
    try:
        manifest = _Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError as error:
        raise InputError(f"{folder / MANIFEST} is damaged ({error.errors()[0]['msg']}): run the study again") from None
    teacher = replace(read_run(_below(folder, manifest.teacher)), model="teacher")
    failed, arms = list(manifest.failed), []
    for arm, places in manifest.arms.items():
        # Where its model is, `Run.config` says.
        read = [
            replace(read_runs(_below(folder, place))[0], model=f"{arm}, seed {seed}") for seed, place in places.items()
        ]
        failed += [f"{run.model}: {run.why_unusable}" for run in read if not run.tasks]
        usable = tuple(run for run in read if run.tasks)
        arms += [Entry(arm, usable)] if usable else []
    frontier, lost = _frontier(folder, manifest.frontier)
    return Group(
        Entry("teacher", (teacher,)),
        tuple(arms),
        manifest.controls,
        (*failed, *lost),
        manifest.trained,
        frontier,
        {model: _usable(folder, places) for model, places in manifest.shadows.items()},
    )


def _usable(folder: Path, places: Sequence[str]) -> tuple[Run, ...]:
    return tuple(run for place in places if (run := read_runs(_below(folder, place))[0]).tasks)


def _frontier(folder: Path, places: _FrontierPlaces | None) -> tuple[Frontier | None, list[str]]:
    """The frontier's students that can be judged, and why the others cannot."""
    if places is None:
        return None, []
    failed: list[str] = []

    def of(seed: str, named: Mapping[str, str]) -> tuple[Run, ...]:
        read = [
            replace(read_runs(_below(folder, place))[0], model=f"{places.arm}, seed {seed}, {what}")
            for what, place in named.items()
        ]
        failed.extend(f"{run.model}: {run.why_unusable}" for run in read if not run.tasks)
        return tuple(run for run in read if run.tasks)

    stopped, fewer = ({seed: of(seed, named) for seed, named in by.items()} for by in (places.stopped, places.fewer))
    return Frontier(places.arm, stopped, fewer), failed


def _below(folder: Path, place: str) -> Path:
    if not (folder / place).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{folder / MANIFEST}: '{place}' is not below the study's folder, so it is not read")
    return folder / place


def _names(runs: Sequence[Run]) -> list[str]:
    """The fewest last parts of the models' names that tell them apart and are no bare numbers, else with folders."""
    parts = [run.model.rstrip("/").split("/") for run in runs]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(path[-depth:]) for path in parts]
        if len(set(names)) == len(runs) and not any(name.isdigit() for name in names):
            return names
    names = [f"{run.model} ({run.path.parent})" for run in runs]
    return names if len(set(names)) == len(runs) else [str(run.path) for run in runs]


def _find(teacher: str, entries: Sequence[Entry]) -> Entry:
    """By its place, where that is one, before its name: a folder may be called like another one's model."""
    wanted, place = teacher.rstrip("/"), Path(teacher).resolve()
    meant = [e for e in entries if any(place in (path := run.path.resolve(), *path.parents) for run in e.runs)]
    if not meant or not place.exists():
        meant = [entry for entry in entries if entry.name == wanted]
    if not meant:
        meant = [entry for entry in entries if any(wanted in _called(run) for run in entry.runs)]
    if len(meant) != 1 or len(meant[0].runs) != 1:
        runs = sum(len(entry.runs) for entry in meant)
        what = "is none of the models" if not meant else f"is {runs} models, not one"
        names = [entry.name for entry in entries]
        raise InputError(f"the teacher {teacher} {what}{nearest(teacher, names)}: {', '.join(names)}")
    return meant[0]


def _called(run: Run) -> tuple[str, ...]:
    return run.model.rstrip("/"), run.path.parent.name
