"""What keeps the rooms as they were drawn: their sizes, their public names, and what an import costs."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import midistill_tasks

PACKAGE = Path(midistill_tasks.__file__).parent
PUBLIC = """
AFTER_SHOTS ATTACKS Attack Encoded Findings HarnessScorer InputError Intervention Job Part REFERENCE Result Section
StudyStep TEXT Table TokenStats View __version__ attack build_report divergence intervention load_stats metric_results
option read_group read_report score_texts scorer section step write_report
"""


DOCTESTS = (
    *("errors", "options", "registry", "metrics.roc", "results.table", "study.graph", "models.loading"),
    *("distill.costs.forecast", "splits.shards"),
)


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def rooms() -> list[Path]:
    return [path.parent for path in sorted(PACKAGE.rglob("__init__.py"))]


def test_a_file_is_read_at_a_sitting():
    assert {str(path): lines(path) for path in PACKAGE.rglob("*.py") if lines(path) > 300} == {}


def test_the_tests_are_as_well():
    assert {str(path): lines(path) for path in Path(__file__).parent.rglob("*.py") if lines(path) > 400} == {}


@pytest.mark.parametrize("room", rooms(), ids=lambda room: str(room.relative_to(PACKAGE.parent)))
def test_a_room_is_known_by_heart(room):
    files = list(room.glob("*.py"))
    assert len(files) <= 20
    assert sum(map(lines, files)) <= 2000


def test_the_public_names_are_these():
    """Whoever changes them changes other people's programs: see the CHANGELOG."""
    assert sorted(midistill_tasks.__all__) == PUBLIC.split()


def test_every_public_name_is_there_for_programs_and_for_type_checkers():
    for name in midistill_tasks.__all__:
        assert getattr(midistill_tasks, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        midistill_tasks.nothing  # noqa: B018

    tree = ast.parse(Path(midistill_tasks.__file__).read_text())
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("midistill_tasks")
        for alias in node.names
    }
    assert typed == set(midistill_tasks.__all__) - {"__version__"}


def test_few_files_stand_for_the_tasks():
    tracked = subprocess.run(
        ["git", "ls-files", "task_yamls"], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("not a checkout")
    assert len(tracked) <= 40


@pytest.mark.parametrize("module", ["midistill_tasks", "midistill_tasks.registry", "midistill_tasks.attacks"])
def test_a_light_module_stays_light(module):
    code = f"import sys, {module}; print({{'torch', 'transformers', 'lm_eval', 'datasets'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", DOCTESTS)
def test_what_a_docstring_shows_is_what_happens(name):
    result = doctest.testmod(importlib.import_module(f"midistill_tasks.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
