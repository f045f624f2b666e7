"""Keys that are declared elsewhere: shared where they mean the same."""

from __future__ import annotations

from pydantic import Field, create_model

from midistill_tasks.options import Strict, option
from midistill_tasks.recipes.keys import declared_keys, options_in


class _Section(Strict):
    weight: float = Field(1.0, gt=0)


def test_keys_are_shared_where_they_are_declared_alike(caplog):
    half = (float, option(0.5, "half of it", gt=0))
    options = {
        "a_x": {"share": half, "weight": (float, option(1.0, "as in the section", gt=0))},
        "a_y": {"share": half},
        "b": {"share": (float, option(0.7, "another default", gt=0)), "rest": (int, option(3, "of b"))},
    }
    keys, owners = declared_keys(_Section, options)
    assert owners == {"share": ["a_x", "a_y"], "weight": ["a_x"], "rest": ["b"]}
    assert {key: field.description for key, (_, field) in keys.items()} == {"share": "a: half of it", "rest": "b: of b"}
    assert "the key 'share' is not that of 'b', which keeps its default" in caplog.text
    section = create_model("Made", __base__=_Section, **keys)(share=0.1, weight=2)
    given = {name: options_in(section, name, fields, owners) for name, fields in options.items()}
    assert given == {"a_x": {"share": 0.1, "weight": 2.0}, "a_y": {"share": 0.1}, "b": {"share": 0.7, "rest": 3}}
