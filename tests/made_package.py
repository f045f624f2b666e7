"""A package of somebody else's, as installed: a module, and entry points that name it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HARNESS_WITHOUT_ITS_TASKS = """\
import sys, lm_eval.tasks.manager as manager
manager.__file__ = {empty!r}  # its own 14,000 YAML files take many seconds
"""


def install(folder: Path, module: str, source: str, *groups: str) -> None:
    """Puts ``module.py`` and its metadata into the folder, which is then for PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    info = folder / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (info / "entry_points.txt").write_text("".join(f"[{group}]\n{module} = {module}\n" for group in groups))


def run_with(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a fresh process in which the package is installed."""
    path = os.pathsep.join([str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )


def lm_eval(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``lm_eval …`` with the package installed."""
    empty = folder / "no_tasks_here"
    empty.mkdir(exist_ok=True)
    code = HARNESS_WITHOUT_ITS_TASKS.format(empty=str(empty / "manager.py"))
    return run_with(folder, f"{code}from lm_eval.__main__ import cli_evaluate\ncli_evaluate()", *arguments)
