"""What the splits say of ``--metadata`` options, in the words of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from midistill_tasks.errors import InputError
from midistill_tasks.recipes.data import Data

_OPTION = re.compile(r"""(, or [^,;]* with )?(?:--metadata ')?\{"mia": \{"(\w+)": ("[^"]*"|…)\}\}'?""")
"""An option in a message, and the words that make it the second of two ways."""


@contextmanager
def in_recipes_words(others: str = "") -> Iterator[None]:
    """Has an InputError say ``data.KEY: VALUE`` where the splits say ``--metadata '{"mia": {"KEY": VALUE}}'``.

    Args:
        others: section of the options that ``data`` lacks, such as "evaluate"; without it a remedy by one is left out.
    """
    try:
        yield
    except InputError as error:
        said = _OPTION.sub(lambda found: _key(found, others), str(error))
        raise InputError(said) from error


def _key(found: re.Match[str], others: str) -> str:
    before, key, value = found[1] or "", found[2], found[3].strip('"')
    section = "data" if key in Data.model_fields else others
    return f"{before}{section}.{key}: {value}" if section else ""
