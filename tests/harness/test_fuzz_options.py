"""Whatever stands in ``--metadata``: each option reaches those that have it as it was given, or one InputError."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from mutate import JSON

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import Options, known_options, parse_options
from midistill_tasks.splits import SPLITS

KNOWN = sorted(known_options())
FITTING: dict[str, Any] = {
    "k": st.floats(0.01, 1),
    "as_published": st.booleans(),
    "shots": st.integers(0, 20),
    "n": st.none() | st.integers(2, 500),
    "seed": st.integers(0, 9),
    "first_token": st.sampled_from(["skip", "prefix"]),
    "log_text": st.booleans(),
    "members": st.text(min_size=1),
    "reference": st.none() | st.text(min_size=1) | st.dictionaries(st.text(), st.text()),
}
KEYS = st.sampled_from([*KNOWN, *ATTACKS]) | st.sampled_from([key.upper() for key in KNOWN] + ["shot", "mia", "kk"])
PAIR = KEYS.flatmap(lambda key: st.tuples(st.just(key), FITTING.get(key, JSON) | JSON))
SECTION = st.tuples(
    st.sampled_from(sorted(ATTACKS)), st.lists(st.tuples(st.sampled_from(["k", "as_published"]), JSON)).map(dict)
)
MIA = st.lists(PAIR | SECTION | st.tuples(st.text(max_size=5), JSON), max_size=4).map(dict)


def read(metadata: Any) -> Options | None:
    try:
        return parse_options(metadata)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017 (either is right)
        return None


@given(MIA)
def test_what_is_accepted_is_what_was_given(mia: dict[str, Any]) -> None:
    options = read({"mia": mia})
    if options is None:
        return
    for key, value in mia.items():
        if key in ATTACKS and isinstance(value, dict):
            assert {name: options.attacks[key][name] for name in value} == value
            continue
        reached = [
            *(found[key] for name, found in options.attacks.items() if key in found and key not in mia.get(name, {})),
            *(found[key] for found in options.splits.values() if key in found),
            *(getattr(section, key) for section in (options.texts, options.run) if hasattr(section, key)),
        ]
        overridden = any(key in value for name, value in mia.items() if name in ATTACKS and isinstance(value, dict))
        assert reached or overridden
        assert all(each == value for each in reached)


@given(st.dictionaries(KEYS | st.text(max_size=6), JSON, max_size=4) | JSON.filter(lambda value: value is not None))
def test_beside_and_in_place_of_the_object(metadata: Any) -> None:
    read(metadata if isinstance(metadata, dict) else {"mia": metadata})


@given(st.sampled_from(sorted(SPLITS)), MIA)
def test_the_options_of_a_split_are_its_own(split: str, mia: dict[str, Any]) -> None:
    options = read({"mia": mia})
    if options is not None:
        assert options.of_split(SPLITS[split]).own.keys() == SPLITS[split].fields.keys()
