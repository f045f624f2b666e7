"""Keys of a section that are declared elsewhere: options of divergences in ``loss``, of splits in ``data``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from midistill_tasks.options import Fields, annotated, defaults

logger = logging.getLogger(__name__)

Owners = dict[str, list[str]]
"""Key → those whose option it is."""


def declared_keys(section: type[BaseModel], options: Mapping[str, Fields]) -> tuple[dict[str, tuple[Any, Any]], Owners]:
    """The keys that a section gets beside its own, for `pydantic.create_model`, and who has which.

    Those that declare an option of one name alike share its key, also with the section; one that declares it otherwise
    than the first keeps its default, and that is said.

    Args:
        section: with the keys that it has already.
        options: of each divergence or split, by its name.
    """
    declared = {key: (info.annotation, info) for key, info in section.model_fields.items()}
    owners: Owners = {}
    for name, fields in options.items():
        for key, (kind, info) in fields.items():
            first_kind, first = declared.setdefault(key, (kind, info))
            if (kind, info.default, info.metadata) == (first_kind, first.default, first.metadata):
                owners.setdefault(key, []).append(name)
            else:
                logger.warning(
                    "the key '%s' is not that of '%s', which keeps its default: rename its option", key, name
                )
    keys = {}
    for key, names in owners.items():
        kind, info = declared[key]
        if key not in section.model_fields:
            default, text = info.get_default(call_default_factory=True), f"{_family(names)}: {info.description}"
            keys[key] = annotated(kind, info), Field(default, description=text)
    return keys, owners


def _family(names: list[str]) -> str:
    first = {name.partition("_")[0] for name in names}
    return first.pop() if len(names) > 1 and len(first) == 1 else ", ".join(names)


def options_in(section: BaseModel, name: str, fields: Fields, owners: Owners) -> dict[str, Any]:
    """The options of one divergence or split, as the section has them."""
    return {
        key: getattr(section, key) if name in owners.get(key, ()) else default
        for key, default in defaults(fields).items()
    }
