"""The code of the guide: a page's blocks are run in order, in one folder, or it is said why they are not.

A block of the pages in `RUN` has a comment above it, ``<!-- run -->`` or ``<!-- not run: REASON -->``. Pages that stood
before are followed by the tests that `FOLLOWED` names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUN = ("blind-baseline", "epsilon", "equal-utility", "reading", "validity", "your-files")
FOLLOWED = {
    "README.md": (
        "tests/walks/test_privacy_officer.py",
        "tests/walks/test_leaderboard_keeper.py",
        "tests/cli/test_demo.py",
    ),
    "CONTRIBUTING.md": (
        "tests/docs/test_pages.py",
        "tests/attacks/test_third_party.py",
        "tests/study/test_third_party.py",
    ),
    "docs/canaries.md": ("tests/walks/test_canaries.py",),
    "docs/distill.md": ("tests/walks/test_distiller.py", "tests/distill/test_other_packages.py"),
    "docs/inspect.md": ("tests/offline/test_inspect.py",),
    "docs/loggers.md": (
        "tests/harness/loggers/test_wandb.py",
        "tests/harness/loggers/test_trackio.py",
        "tests/harness/loggers/test_hub_log.py",
    ),
    "docs/large-splits.md": ("tests/shards/test_score.py", "tests/stats/test_joined.py"),
    "docs/publish.md": ("tests/walks/test_leaderboard_keeper.py",),
    "docs/research.md": ("tests/walks/test_researcher.py",),
    "docs/study.md": ("tests/study/test_study.py", "tests/report/sections/test_third_party.py"),
}
NOT_RUN = {
    "docs/backends.md": "servers, vLLM and GGUF files: .ci/backend",
    "docs/findings.md": "hours: the studies behind the figures",
    "docs/reference.md": "made from the code, and lists keys",
}
BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^\n]*?) -->\n\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """Of a page: its language, code, and what stands above it."""

    language: str
    code: str
    mark: str | None


def blocks(page: Path) -> list[Block]:
    return [
        Block(found["language"], found["code"], found["mark"])
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def follow(page: Path, folder: Path) -> None:
    """Runs the marked blocks in the folder, which is the working one."""
    (folder / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in (block for block in blocks(page) if block.mark == "run"):
        if block.language == "python":
            exec(compile(block.code, page.name, "exec"), {})  # noqa: S102
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            cwd=folder,
            env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "HOME": str(folder)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{block.code}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def is_quick(name: str) -> bool:
    return all(block.language == "python" for block in blocks(ROOT / "docs" / f"{name}.md"))


@pytest.mark.parametrize("name", RUN)
def test_a_block_is_run_or_says_why_not(name):
    for block in blocks(ROOT / "docs" / f"{name}.md"):
        assert block.mark == "run" or re.fullmatch(r"not run: .{10,}", block.mark or ""), block.code


def test_every_page_with_code_is_followed_by_a_test_or_says_why_not():
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} | {"README.md", "CONTRIBUTING.md"}
    with_code = {page for page in pages if blocks(ROOT / page)}
    assert with_code - {f"docs/{name}.md" for name in RUN} <= {*FOLLOWED, *NOT_RUN}
    assert [test for tests in FOLLOWED.values() for test in tests if not (ROOT / test).is_file()] == []


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if is_quick(n) else pytest.mark.slow) for n in RUN])
def test_the_code_of_a_page_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    follow(ROOT / "docs" / f"{name}.md", tmp_path)


def test_the_recipes_for_contributors_register_what_they_show(tmp_path):
    """Each in its own process would pay the same imports nine times."""
    code = [block.code for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python"]
    said = "from midistill_tasks import ATTACKS\nprint([name in ATTACKS for name in ('sure', 'uppercase')])"
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join([*code, said])], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "[True, True]"
    assert len(code) >= 8


def test_a_release_has_one_version():
    said = {
        "pyproject.toml": r'^version = "(.+)"$',
        "midistill_tasks/__init__.py": r'^__version__ = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
    }
    versions = [re.findall(how, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE) for name, how in said.items()]
    assert versions[0] == versions[1] == versions[2] != []
    changes = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changes[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(versions[0][0])} \(\d{{4}}-\d\d-\d\d\)", changes[1])
