"""Changes at a random place, for hypothesis: of nested data a value or a key, of a file a byte or its end."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

LIKELY = st.sampled_from([None, True, False, 0, 1, -1, 2, 0.5, 1e300, "", " ", "1", "base", "files", "../x"])
JSON = st.recursive(
    LIKELY | st.builds(list) | st.builds(dict) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all that is inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, below in inside for path in [(*at, key), *places(below, (*at, key))]]


@st.composite
def mutated(draw: st.DrawFn, value: Any, keys: st.SearchStrategy[str] | None = None, values: Any = JSON) -> Any:
    """The value with one to three changes; `keys` are those that may be added."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        where = places(changed)
        if not where:
            break
        *above, last = draw(st.sampled_from(where))
        inner = changed
        for key in above:
            inner = inner[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "remove":
                del inner[last]
            case "add" if isinstance(inner, dict):
                inner[draw(st.text(max_size=8) if keys is None else keys)] = draw(values)
            case _:
                inner[last] = draw(values)
    return changed


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes with one changed, or cut short."""
    place = draw(st.integers(0, len(content) - 1))
    return content[:place] + draw(
        st.just(b"") | st.integers(0, 255).map(lambda byte: bytes([byte]) + content[place + 1 :])
    )
