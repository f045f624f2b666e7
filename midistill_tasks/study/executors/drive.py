"""Hands a study's units to an executor in their order, says how they fare, and looks at what they wrote."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from midistill_tasks.errors import InputError
from midistill_tasks.study.executors import Executor, child
from midistill_tasks.study.executors.resources import Resources
from midistill_tasks.study.executors.unit import Unit
from midistill_tasks.study.executors.units import units_of
from midistill_tasks.study.graph import Part
from midistill_tasks.study.work import Work

logger = logging.getLogger(__name__)

_FAILED = "failed: "


def drive(executor: Executor, work: Work, left: Sequence[Part], recipe: Sequence[str]) -> dict[str, str]:
    """Does the parts that are left; a unit that fails keeps only those from running that need it.

    Args:
        executor: where.
        work: the study.
        left: of its parts.
        recipe: the study as a command line names it.

    Returns:
        Name of a part → why it has no result.

    Raises:
        InputError: the executor cannot run them, or what comes before the students failed.
    """
    units = units_of(work, left, recipe)
    return drive_units(executor, units, Path(work.study.output), work.study.resources)


def drive_units(
    executor: Executor,
    units: Sequence[Unit],
    folder: Path,
    resources: Resources,
    watch: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Has units run, each after its needs; one that fails keeps only those from running that need it.

    Args:
        executor: where.
        units: each after its needs.
        folder: below which they write, and their logs are.
        resources: what the user says of all.
        watch: called about every second.

    Returns:
        What has no result → why.

    Raises:
        InputError: the executor cannot run them, or one failed without which nothing goes on.
    """
    if not units:
        return {}
    executor.check(folder, resources, units)
    course = _Course(executor, units, watch)
    try:
        course.run()
    except BaseException:
        logger.info("stopping %s; what is done stays", _counted(len(course.running), "part"))
        executor.stop()
        raise
    return course.failed


@dataclass
class _Course:
    """Where each unit stands."""

    executor: Executor
    units: Sequence[Unit]
    watch: Callable[[], None]
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = list(self.units)
        self.running: dict[str, Unit] = {}
        self.seen: dict[str, tuple[str, float]] = {}  # name → node, and when it was first seen there
        self.told: dict[str, str] = {}  # name → its own last line
        self.lost: set[str] = set()  # failed, or waiting for what failed
        self.seconds: list[float] = []

    def run(self) -> None:
        while self.waiting or self.running:
            self._start()
            if not self.running:  # all that waited did so for what failed
                break
            for unit, reason in self.executor.ended():
                self._look()
                self._end(unit, reason)
            self._look()

    def _start(self) -> None:
        """Whatever waits for nothing any more."""
        lost = [unit for unit in self.waiting if self.lost & set(unit.needs)]
        while lost:  # also those that wait for these
            self.lost |= {unit.name for unit in lost}
            self.waiting = [unit for unit in self.waiting if unit.name not in self.lost]
            lost = [unit for unit in self.waiting if self.lost & set(unit.needs)]
        open_ = {unit.name for unit in self.waiting} | set(self.running)
        ready = self.waiting if self.executor.orders() else [u for u in self.waiting if not open_ & set(u.needs)]
        if ready:
            for unit in ready:
                unit.begin()
                self.running[unit.name] = unit
            self.waiting = [unit for unit in self.waiting if unit.name not in self.running]
            self.executor.start(ready)

    def _look(self) -> None:
        """Says where units run, and what a training says once a minute about the time that it has left."""
        for name, unit in self.running.items():
            where = self.executor.where(unit)
            if where and self.seen.get(name, ("",))[0] != where:
                again = ", begun again" if name in self.seen else ""
                self.seen[name] = where, time.monotonic()
                logger.info("%s: runs on %s%s", name, where, again)
            line = _last_line(unit.log)
            if line.endswith(" left") and self.told.get(name) != line:
                self.told[name] = line
                logger.info("%s, %s: %s", name, where, line)
        self.watch()

    def _end(self, unit: Unit, reason: str) -> None:
        del self.running[unit.name]
        where, began = self.seen.get(unit.name, ("", time.monotonic()))
        reason = reason or _missing(unit)
        if reason and self.lost & set(unit.needs):  # an executor that orders by itself has tried it all the same
            self.lost.add(unit.name)
        elif reason:
            self.lost.add(unit.name)
            said = _said(unit.log) or reason
            logger.warning("%s: failed on %s (%s); its log: %s", unit.name, where or "no node", said, unit.log)
            if unit.vital:
                raise InputError(f"{unit.name} failed ({said}): its log, {unit.log}, says more; run the study again")
            self.failed[unit.fails_as] = said
        else:
            took = time.monotonic() - began
            self.seconds.append(took)
            logger.info("%s: done in %.0f s on %s%s", unit.name, took, where, self._rest())

    def _rest(self) -> str:
        """How many units are left, and about how long they take, as long as those before on as many places."""
        left = len(self.waiting) + len(self.running)
        if not left:
            return ""
        mean = sum(self.seconds) / len(self.seconds)
        places = 1 + sum(name in self.seen for name in self.running)  # what is handed over may wait for one
        about = timedelta(seconds=round(mean * left / min(left, places)))
        return f"; {_counted(left, 'part')} left, about {about}"


def _missing(unit: Unit) -> str:
    """What a unit that ended well has not written, or not to its end; "" = all is there."""
    until = time.monotonic() + child.VISIBLE
    while not all(map(child.is_there, unit.writes)):
        if time.monotonic() > until:
            path = next(path for path in unit.writes if not child.is_there(path))
            return f"it ended well, but {path} is not there: is that folder one for all nodes?"
        time.sleep(0.5)
    damaged = [path for path in unit.writes if not _is_whole(path)]
    return f"it ended well, but {damaged[0]} cannot be read to its end" if damaged else ""


def _is_whole(path: Path) -> bool:
    """Whether the records of a part can be read: JSON, and lines of JSON that end as they should."""
    for file in sorted(path.rglob("*.json*")) if path.is_dir() else [path]:
        content = file.read_text(encoding="utf-8") if file.suffix in (".json", ".jsonl") else "{}"
        try:
            json.loads(content if file.suffix != ".jsonl" else content[content.rstrip("\n").rfind("\n") + 1 :])
        except ValueError:
            return False
        if file.suffix == ".jsonl" and not content.endswith("\n"):
            return False
    return True


def _said(log: Path) -> str:
    """Why a part failed, by its own last words; "" = it has not said."""
    line = _last_line(log)
    if line.startswith(_FAILED):
        return line.removeprefix(_FAILED).partition(", ")[2]
    return line.partition(": ")[2] if line.startswith("midistill ") else ""


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
