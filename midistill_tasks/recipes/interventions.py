"""The recipe's section of interventions: a key for each that there is, and the keys that several share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from midistill_tasks.errors import nearest
from midistill_tasks.methods import INTERVENTIONS, Intervention, is_chosen, read_interventions
from midistill_tasks.options import Fields, Strict, annotated, model_of

PAPER = {"non_vulnerable": True, "bottleneck": 192, "nonorm": True}
"""What ``all`` stands for; B is the paper's for Pythia-160m."""


class _Section(Strict):
    selection: str | None = Field(None, description="the folder that `midistill select` wrote")

    @property
    def chosen(self) -> list[Intervention]:
        """Those that are to be done, in the order in which they act."""
        return read_interventions({name: getattr(self, name) for name in type(self).model_fields})

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = {name: _short(name, value) for name, value in given.items()}
        if given.get("all") is not True:
            return given
        for name, value in PAPER.items():
            if value is True and given.get(name) is False:
                raise ValueError(f"'all: true' and '{name}: false' contradict each other")
        return {**PAPER, **given, **{name: value for name, value in PAPER.items() if value is True}}

    @model_validator(mode="after")
    def _possible(self) -> _Section:
        names = [name for name in INTERVENTIONS if is_chosen(getattr(self, name))]
        choosing = [name for name in names if "selection" in INTERVENTIONS[name].model_fields]
        if len(choosing) > 1:
            raise ValueError(f"{' and '.join(choosing)} both choose the texts: keep one")
        if choosing and not self.selection:
            raise ValueError(f"'{choosing[0]}' needs 'selection', the folder that `midistill select` wrote")
        for name in names:
            if INTERVENTIONS[name].control in names:
                raise ValueError(f"'{INTERVENTIONS[name].control}' is the control of '{name}': keep one")
        foldable = _foldable()
        if getattr(self, "foldable", False) and not set(foldable) & set(names):
            all_of_them = " and ".join(f"'{name}'" for name in foldable)
            raise ValueError(f"'foldable' chooses a variant of {all_of_them}: add one of them")
        _ = self.chosen  # an intervention may refuse values that are right one by one
        return self


def _short(name: str, value: Any) -> Any:
    """``{p: 0.1}`` as ``0.1``, which is how an intervention with one field is kept."""
    fields = INTERVENTIONS[name].fields() if isinstance(value, Mapping) and name in INTERVENTIONS else {}
    if len(fields) != 1:
        return value
    ((field, info),) = fields.items()
    for key in value:
        if key != field:
            raise ValueError(f"'{name}.{key}' is no option{nearest(str(key), fields)}; '{name}' knows {field}")
    if field not in value and info.is_required():
        raise ValueError(f"'{name}' needs '{field}': write '{name}: {{{field}: …}}', or the value alone")
    return value[field] if field in value else info.get_default(call_default_factory=True)


def _foldable() -> list[str]:
    return [name for name, kind in INTERVENTIONS.items() if "foldable" in kind.model_fields]


def _keys() -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name, kind in INTERVENTIONS.items():
        yield name, _key(kind)
        if name == list(PAPER)[-1]:
            yield "all", (bool, Field(False, description=_ALL))
            yield "foldable", (bool, Field(False, description=_FOLDABLE))


_ALL = f"non_vulnerable, nonorm and bottleneck ({PAPER['bottleneck']} unless given)"
_FOLDABLE = "the variants of bottleneck and nonorm that `midistill export --plain` can fold away"


def _key(kind: type[Intervention]) -> tuple[Any, Any]:
    """True or false without fields of its own, their value with one, a section with more."""
    fields = kind.fields()
    if not fields:
        return bool, Field(False, description=kind.help)
    if len(fields) > 1:
        of_section: Fields = {name: (annotated(info.annotation, info), info) for name, info in fields.items()}
        return model_of(kind.__name__, of_section, kind.help) | None, Field(None, description=kind.help)
    (info,) = fields.values()
    text = f"{kind.help}; {info.description}" if info.description else kind.help
    return annotated(info.annotation, info) | None, Field(None, description=text)


def needs_selection(given: Mapping[str, Any]) -> bool:
    """Whether one of these interventions, written as in a recipe, chooses texts by what `midistill select` found."""
    names = [*given, *(PAPER if given.get("all") else ())]
    chosen = [name for name in names if name in INTERVENTIONS and (is_chosen(given.get(name)) or given.get("all"))]
    return any("selection" in INTERVENTIONS[name].model_fields for name in chosen)


if TYPE_CHECKING:

    class Interventions(_Section):
        """What the paper changes so that the student leaks less, and the controls."""

else:
    Interventions = create_model(
        "Interventions",
        __base__=_Section,
        __doc__="What the paper changes so that the student leaks less, and the controls.",
        **dict(_keys()),
    )
