"""The page needs neither torch nor the harness: it is made where the results are, not where the models ran."""

from __future__ import annotations

import subprocess
import sys

import pytest

IMPORT = "import midistill_tasks.report"
IMPORT_ALL = "import midistill_tasks.report.build, midistill_tasks.report.comparison"
BUILD = """
import sys
from midistill_tasks.cli.main import main
assert main(["report", sys.argv[1], "--output", sys.argv[2]]) == 0
"""
COMPARE = """
import sys
from midistill_tasks.cli.main import main
results = sys.argv[1] + "/results/"
assert main(["compare", results + "teacher", results + "vanilla0", "--output", sys.argv[2]]) == 0
"""


@pytest.mark.parametrize("code", [IMPORT, IMPORT_ALL, BUILD, COMPARE])
def test_neither_torch_nor_the_harness_is_imported(study, tmp_path, code):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, str(study), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "midistill_tasks" in imported
    assert not {"torch", "lm_eval", "transformers", "datasets"} & imported
