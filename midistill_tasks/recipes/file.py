"""Reads a recipe from YAML: every mistake is named with its file, line and the nearest right key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.recipes.schema import Recipe
from midistill_tasks.secrets import redact

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


def shipped_recipes(studies: bool = False) -> dict[str, Path]:
    """The recipes that come with midistill, by name: of distillations, or of studies (``study-…``)."""
    folder = Path(str(resources.files("midistill_tasks"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.stem.startswith("study-") == studies}


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        name: a YAML file, or the name of a shipped recipe.
        overrides: ``section.key=value``, the value in YAML.

    Raises:
        InputError: with file, line and remedy, for anything that is not a recipe.
    """
    return read_yaml(find_recipe(name), Recipe, overrides)


def read_yaml(path: Path, model: type[Model], overrides: Sequence[str] = ()) -> Model:
    """Reads a file as a `model`; raises as `load_recipe`."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: save the recipe as UTF-8") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        given = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise InputError(f"{path}, line {line}: this is not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a NUL, a 13th month, a list that holds itself
        raise InputError(f"{path}: this is not YAML that a recipe can hold: {_in_one_line(error)}") from None
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{path} holds no recipe: begin it with keys such as 'teacher:' (see `midistill recipes`)")
    lines = {}
    for key, line, repeated in _keys(node):
        if repeated:
            raise InputError(f"{path}, line {line}: '{_dotted(key)}' stands here a second time: remove one")
        lines[key] = line
    overridden = {_override(given, text) for text in overrides}
    _check_no_tokens(given, path)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InputError(_explain(error.errors()[0], model, path, lines, overridden)) from None


def _check_no_tokens(value: Any, path: Path, at: str = "") -> None:
    """A recipe is stored with what it made, for others to read."""
    if isinstance(value, dict):
        for key, below in value.items():
            _check_no_tokens(below, path, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list):
        for below in value:
            _check_no_tokens(below, path, at)
    elif redact(value) != value:
        raise InputError(
            f"{path}: {at} holds an access token or a password, which would be stored with the results: remove it, and "
            "run `hf auth login` or set HF_TOKEN"
        )


def dump_recipe(recipe: BaseModel) -> str:
    """The recipe as YAML with every default written out; reading it gives the same recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_stored(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """What `dump_recipe` wrote, perhaps long ago: keys that the recipe has got since then stand at their defaults.

    What is no recipe any more (a package is gone that an option came from) stays as it is.
    """
    try:
        stored: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({_in_one_line(error)}): restore it, or give another output") from None
    if not isinstance(stored, dict):
        raise InputError(f"{path} is damaged (it holds no recipe): restore it, or give another output")
    try:
        return model.model_validate(stored).model_dump(mode="json")
    except ValidationError:
        return stored


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def describe_recipe(model: type[BaseModel] = Recipe) -> str:
    """Every section, key, default and meaning, for people."""
    parts = []
    for name, field in model.model_fields.items():
        section = next((part for part in (field.annotation, *get_args(field.annotation)) if _is_section(part)), None)
        if section is None:
            parts.append(f"{name}: {field.description}")
        else:
            parts.append(f"{name}:  # {field.description or (section.__doc__ or '').splitlines()[0]}")
            parts += _describe_keys(section, "  ")
    return "\n".join(parts)


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


def _describe_keys(section: type[BaseModel], indent: str) -> list[str]:
    lines = []
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if field.is_required() or default in (None, []) else f" [{default}]"
        lines.append(f"{indent}{name}: {field.description}{shown}")
        for part in get_args(field.annotation):
            if _is_section(part):
                lines += _describe_keys(part, indent + "  ")
    return lines


def find_recipe(name: str, studies: bool = False) -> Path:
    """The file of a recipe (or of a study), given its path or its shipped name; InputError where there is none."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes(studies)
    if name in shipped:
        return shipped[name]
    kind = "study" if studies else "recipe"
    raise InputError(
        f"there is no {kind} '{name}'{nearest(name, shipped)}: give a YAML file, or one of {', '.join(shipped)}"
    )


def _keys(node: yaml.Node, above: Key = ()) -> Iterator[tuple[Key, int, bool]]:
    """Each key of a YAML tree with its line (from 1), and whether it stood before in its mapping."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key_node, value in node.value:
            key = (*above, str(key_node.value))
            yield key, key_node.start_mark.line + 1, key in seen
            seen.add(key)
            yield from _keys(value, key)
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            yield (*above, position), value.start_mark.line + 1, False


def _override(given: dict[str, Any], text: str) -> Key:
    """Puts one ``section.key=value`` into the recipe and returns its key."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--set {text}: write section.key=value, such as train.epochs=3")
    *sections, last = name.split(".")
    place = given
    for section in sections:
        if place.get(section) is None:
            place[section] = {}
        place = place[section]
        if not isinstance(place, dict):
            raise InputError(f"--set {text}: '{section}' holds a value, not a section")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {text}: the value is not YAML; quote it") from None
    return (*sections, last)


def _explain(
    error: ErrorDetails, model: type[BaseModel], path: Path, lines: dict[Key, int], overridden: set[Key]
) -> str:
    loc: Key = tuple(error["loc"])
    place = _place(loc, path, lines, overridden)
    name = _dotted(loc)
    if error["type"] == "extra_forbidden":
        known = _known_keys(loc[:-1], model)
        section = f"'{_dotted(loc[:-1])}'" if loc[:-1] else "a recipe"
        hint = nearest(str(loc[-1]), known) or _section_of(str(loc[-1]), model)
        return f"{place}: '{name}' is no option{hint}; {section} knows {', '.join(known)}"
    if error["type"] == "missing":
        return f"{place}: '{name}' is missing; add it (see `midistill recipes`)"
    if error["type"] == "value_error":
        return f"{place}: {name + ': ' if name else ''}{error['msg'].removeprefix('Value error, ')}"
    return f"{place}: '{name}': {error['msg'][:1].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _place(loc: Key, path: Path, lines: dict[Key, int], overridden: set[Key]) -> str:
    if loc in overridden:
        return f"--set {_dotted(loc)}"
    while loc and loc not in lines:
        loc = loc[:-1]
    return f"{path}, line {lines[loc]}" if loc else str(path)


def _known_keys(section: Key, model: type[BaseModel]) -> list[str]:
    for name in section:
        if str(name) not in model.model_fields:  # a name of the user's own, such as an arm of a study
            continue
        annotation = model.model_fields[str(name)].annotation
        for part in (annotation, *get_args(annotation)):
            if _is_section(part):
                model = part
    return list(model.model_fields)


def _section_of(key: str, model: type[BaseModel]) -> str:
    """Where a key that stands in the wrong section belongs."""
    for name in model.model_fields:
        if key in _known_keys((name,), model) and _known_keys((name,), model) != list(model.model_fields):
            return f" here (it belongs to '{name}')"
    return ""


def _dotted(key: Key) -> str:
    return ".".join(str(part) for part in key)
