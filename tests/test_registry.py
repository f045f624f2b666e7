"""Built-ins are imported when asked for; other packages come in by entry points, and never break what is here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.registry import Registry


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    """A registry of two built-ins, and a package beside it that brings a third, or fails."""
    (tmp_path / "made_red.py").write_text("import colours\ncolours.REGISTRY.register('red', 'R', __name__)\n")
    (tmp_path / "made_blue.py").write_text("import colours\ncolours.REGISTRY.register('blue', 'B', __name__)\n")
    (tmp_path / "other.py").write_text("import colours\ncolours.REGISTRY.register('green', 'G', __name__)\n")
    (tmp_path / "broken.py").write_text("raise RuntimeError('oh')\n")
    (tmp_path / "colours.py").write_text(
        "from midistill_tasks.registry import Registry\n"
        "REGISTRY = Registry('colour', 'made.colours', {'red': 'made_red', 'blue': 'made_blue'})\n"
    )
    info = tmp_path / "made-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: made\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[made.colours]\nbroken = broken\nother = other\n")
    monkeypatch.syspath_prepend(tmp_path)
    import colours  # type: ignore[import-not-found]

    yield colours.REGISTRY
    for name in ("made_red", "made_blue", "other", "broken", "colours"):
        sys.modules.pop(name, None)


def test_a_built_in_is_imported_when_it_is_asked_for_and_not_before(colours):
    assert colours["red"] == "R"
    assert "made_red" in sys.modules
    assert "made_blue" not in sys.modules


def test_names_are_the_built_ins_in_order_then_those_of_other_packages(colours, caplog):
    assert list(colours) == ["red", "blue", "green"]
    assert len(colours) == 3
    assert "made_blue" not in sys.modules
    assert "broken = broken could not be loaded: RuntimeError('oh')" in caplog.text


def test_another_packages_item_is_found_by_name(colours):
    assert colours["green"] == "G"
    assert "violet" not in colours


def test_an_unknown_name_says_which_there_are_and_the_nearest(colours):
    with pytest.raises(InputError, match=r"here: there is no colour 'gren' \(did you mean 'green'\?\); colours: red"):
        colours.find("gren", "here")


def test_a_name_belongs_to_one_module(colours):
    assert "green" in colours
    for name in ("red", "green"):
        with pytest.raises(ValueError, match=f"mine: the colour '{name}' is one of "):
            colours.register(name, "mine", "mine")
    colours.register("red", "R2", "made_red")  # imported again
    assert colours["red"] == "R2"
