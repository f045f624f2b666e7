"""Options that stand where they act: keyword-only parameters of a function, with default, range and help.

    def surp(text: TokenStats, *, k: float = option(0.4, "share of the lowest tokens", gt=0, le=1)) -> float: …

Recipes, ``--metadata`` and ``--help`` are assembled from them by `options_of`; nothing else lists them.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

Fields = dict[str, tuple[Any, FieldInfo]]
"""Name → type and field, as `pydantic.create_model` takes them."""


class Strict(BaseModel):
    """A part of a recipe or of ``--metadata``: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


def option(default: Any, help: str, **constraints: Any) -> Any:
    """The default of a keyword-only parameter that users may set; `constraints` as of `pydantic.Field`."""
    return Field(default, description=help, **constraints)


def options_of(function: Callable[..., Any]) -> Fields:
    """The options that a function declares.

    >>> def surp(text, *, k: float = option(0.4, "share of the lowest tokens", gt=0, le=1)): ...
    >>> [(name, kind.__name__, field.default) for name, (kind, field) in options_of(surp).items()]
    [('k', 'float', 0.4)]

    Raises:
        TypeError: a keyword-only parameter has no `option` as its default.
    """
    fields: Fields = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if not isinstance(parameter.default, FieldInfo):
            raise TypeError(f"{_plain(function).__qualname__}: give '{name}' a default by option(default, help)")
        fields[name] = (_type(function, parameter.annotation), parameter.default)
    return fields


def _plain(function: Any) -> Any:
    return function.func if isinstance(function, partial) else function


def _type(function: Callable[..., Any], annotation: Any) -> Any:
    """Of an option only: other parameters may be annotated with what is there for type checkers alone."""
    if not isinstance(annotation, str):
        return annotation
    holder = type("holder", (), {"__annotations__": {"option": annotation}})
    return get_type_hints(holder, vars(sys.modules[_plain(function).__module__]))["option"]


def defaults(fields: Fields) -> dict[str, Any]:
    """Name → default."""
    return {name: field.get_default(call_default_factory=True) for name, (_, field) in fields.items()}


def annotated(kind: Any, field: FieldInfo) -> Any:
    """The type with the field's constraints, for a field with another default or description."""
    return Annotated[(kind, *field.metadata)] if field.metadata else kind


def model_of(name: str, fields: Mapping[str, tuple[Any, FieldInfo]], doc: str = "") -> type[Strict]:
    """A strict pydantic model of these fields."""
    made: type[Strict] = create_model(name, __base__=Strict, __doc__=doc or None, **dict(fields))  # type: ignore[call-overload]
    return made
