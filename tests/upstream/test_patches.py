"""The patches of docs/upstream against the harness's own sources, as PyPI has them: each applies, and brings tests that
fail without it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "upstream"
PATCHES = sorted(FOLDER.glob("*.patch"))
(VERSION,) = re.findall(r"^lm_eval==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)


def test_the_readme_names_every_patch_and_the_version():
    said = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(.+?\.patch)\]", said, re.MULTILINE) == [patch.name for patch in PATCHES]
    assert len(PATCHES) == 4
    assert f"lm_eval {VERSION}" in said


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the harness, with its tests."""
    folder = tmp_path_factory.mktemp("sdist")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*pip, "-d", str(folder), f"lm_eval=={VERSION}"], check=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / f"lm_eval-{VERSION}"


@contextmanager
def applied(harness: Path, patches: list[Path], *flags: str) -> Iterator[None]:
    done: list[Path] = []
    try:
        for patch in patches:
            subprocess.run(["git", "apply", *flags, str(patch)], cwd=harness, check=True)
            done.append(patch)
        yield
    finally:
        for patch in reversed(done):
            subprocess.run(["git", "apply", "-R", *flags, str(patch)], cwd=harness, check=True)


def python(harness: Path, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """With these sources, and without our plugin."""
    paths = os.pathsep.join(filter(None, (str(harness), env.pop("PYTHONPATH", ""))))
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "MIDISTILL_AUTOLOAD": "0", **env, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_passes_its_tests_which_fail_without_it(harness: Path, patch: Path):
    tests = re.findall(r"^\+\+\+ b/(tests/.+\.py)$", patch.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(tests) == 1
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir", "."]
    with applied(harness, [patch]):
        done = python(harness, *command, *tests, cwd=harness)
    assert done.returncode == 0, done.stdout[-3000:]
    with applied(harness, [patch], "--include=tests/*"):
        done = python(harness, *command, *tests, cwd=harness)
    assert done.returncode in (1, 2), done.stdout[-3000:]  # tests fail, or cannot import what they test


@pytest.mark.slow
def test_with_all_patches_our_tasks_are_found_without_the_plugin(
    harness: Path, tiny: Callable[..., Path], texts: list[str], tmp_path: Path
):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(ROOT)], check=True)
    mia: dict[str, Any] = {}
    for name, some in {"members": texts[:10], "nonmembers": texts[10:20]}.items():
        mia[name] = str(tmp_path / f"{name}.jsonl")
        Path(mia[name]).write_text("\n".join(json.dumps({"text": text}) for text in some))
    command = ["-m", "lm_eval", "--tasks", "mia_loss_files", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={tiny('gpt2')}", "--metadata", json.dumps({"mia": mia})]

    def run(out: Path) -> subprocess.CompletedProcess[str]:
        return python(harness, *command, "--output_path", str(out), cwd=tmp_path, PYTHONPATH=str(site))

    without = run(tmp_path / "without")
    assert without.returncode != 0
    assert "mia_loss_files" in without.stderr
    with applied(harness, PATCHES):
        done = run(tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    (written,) = (tmp_path / "out").rglob("results_*.json")
    assert 0 <= json.loads(written.read_text())["results"]["mia_loss_files"]["auroc,none"] <= 1
