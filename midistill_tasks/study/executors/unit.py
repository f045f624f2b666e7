"""A unit: a command that an executor runs somewhere, what it takes, waits for and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from midistill_tasks.study.executors.child import NODE, OUTPUT
from midistill_tasks.study.executors.resources import Need


@dataclass(frozen=True)
class Unit:
    """A command, ``midistill ARGUMENTS``.

    Attributes:
        name: for people, and for those that need it.
        needs: names of the units that must be done before.
        need: what it takes of a machine.
        arguments: behind ``midistill``.
        logs: the folder of its logs.
        writes: what exists once it is done.
    """

    name: str
    needs: tuple[str, ...]
    need: Need
    arguments: tuple[str, ...]
    logs: Path
    writes: tuple[Path, ...]

    @property
    def fails_as(self) -> str:
        """What has no result where it fails."""
        return self.name

    @property
    def vital(self) -> bool:
        """Whether nothing goes on without it."""
        return False

    @property
    def log(self) -> Path:
        """All that it prints."""
        return self.logs / OUTPUT

    @property
    def node(self) -> str:
        """Where it runs or ran last; "" = it was not begun."""
        try:
            return (self.logs / NODE).read_text(encoding="utf-8")
        except OSError:
            return ""

    def begin(self) -> None:
        """Makes the folder of its logs, in which no node stands yet."""
        self.logs.mkdir(parents=True, exist_ok=True)
        (self.logs / NODE).unlink(missing_ok=True)
