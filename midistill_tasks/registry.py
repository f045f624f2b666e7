"""One mechanism for whatever can be added: attacks, scorers, divergences, interventions, sections, steps.

    ATTACKS: Registry[Attack] = Registry("attack", "midistill.attacks", {"loss": "midistill_tasks.attacks.likelihood"})

A built-in is a line in the mapping of its room, and its module is imported when it is asked for. Another package names
a module of its own under the entry point of the same group; importing it registers what is decorated there. Entry
points are read where a name is not known yet, and where all names are wanted.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from midistill_tasks.errors import InputError, nearest

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name → item; built-ins first, in the order of their list, then those of other packages by name.

    >>> colours: Registry[str] = Registry("colour", "midistill.no_such_group", {})
    >>> colours.register("red", "#f00", "paint")
    '#f00'
    >>> colours.find("rad", "recipe.yaml: colour")
    Traceback (most recent call last):
    midistill_tasks.errors.InputError: recipe.yaml: colour: there is no colour 'rad' (did you mean 'red'?); colours: red
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, str]) -> None:
        """`kind` is the word for messages, `group` the entry point, `builtin` name → module that registers it."""
        self.kind, self.group = kind, group
        self._builtin = dict(builtin)
        self._items: dict[str, T] = {}
        self._modules: dict[str, str] = {}
        self._entry_points_read = False

    def register(self, name: str, item: T, module: str) -> T:
        """Adds an item that `module` defines; the decorator of each room calls this.

        Raises:
            ValueError: another module has an item of this name.
        """
        owner = self._modules.get(name, self._builtin.get(name, module))
        if owner != module:
            raise ValueError(f"{module}: the {self.kind} '{name}' is one of {owner} already: take another name")
        self._items[name], self._modules[name] = item, module
        return item

    def find(self, name: str, place: str) -> T:
        """The item of this name.

        Raises:
            InputError: there is none; the message begins with `place` and says which there are.
        """
        if name not in self:
            raise InputError(f"{place}: there is no {self.kind} '{name}'{nearest(name, self)}; {self.known}")
        return self[name]

    @property
    def known(self) -> str:
        """``attacks: loss, zlib, …``, for messages."""
        return f"{self.kind}s: {', '.join(self)}"

    def __getitem__(self, name: str) -> T:
        if name not in self._items and name in self._builtin:
            importlib.import_module(self._builtin[name])
        if name not in self._items:
            self._read_entry_points()
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._read_entry_points()
        yield from self._builtin
        yield from sorted(self._items.keys() - self._builtin.keys())

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _read_entry_points(self) -> None:
        if self._entry_points_read:
            return
        self._entry_points_read = True
        for point in entry_points(group=self.group):
            try:
                point.load()
            except Exception as error:  # another package's fault must not end a run that does not need it
                logger.warning("the entry point %s = %s could not be loaded: %r", point.name, point.value, error)
