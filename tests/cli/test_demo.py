"""The demo's way on a study as small as can be; its figures at full size stand in the README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from midistill_tasks.cli import demo
from midistill_tasks.cli.main import main
from midistill_tasks.study.run import load_study


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo writes; its study has fewer texts, a smaller teacher, one epoch and one student."""
    sizes = ["data.n=150", "teacher.config.n_embd=16", "teacher.fine_tune.epochs=1", "train.epochs=1"]
    study = load_study(demo.STUDY, sizes)
    recipe = study.model_dump(mode="json", exclude={"arms", "controls"}) | {"arms": {"vanilla": {}}}
    del recipe["teacher"]["fine_tune"]["folder"]
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(demo, "STUDY", str(path))
    return tmp_path / "demo"


@pytest.mark.slow
def test_the_demo_says_where_its_page_is_and_a_second_run_trains_nothing(small: Path, capfd, monkeypatch) -> None:
    monkeypatch.chdir(small.parent)  # which is no git repository
    assert main(["demo", "--output", str(small)]) == 0
    first, said = capfd.readouterr()
    for noise in ("{'", "fatal", "it/s", "%|", "[transformers]", "Custom kwargs"):
        assert noise not in first + said
    log = (small / "study" / "midistill.log").read_text()
    for kept in ("'loss'", "Custom kwargs", "teacher: train on the members took"):
        assert kept in log
    assert f"The page: {(small / 'study' / 'report' / 'index.html').resolve()}" in first
    assert "|mia_loss_bios" in first
    assert "|mia_ref_bios" in first, "the control is the reference of the teacher"
    assert "whether others trained in the same way are safer is undecided" in first

    figures = json.loads(next((small / "control-results").rglob("results_*.json")).read_text())["results"]
    areas = {name: row for name, row in figures.items() if name.startswith("mia_")}
    assert set(areas) == {f"mia_{attack}_bios" for attack in ("loss", "zlib", "mink", "minkpp", "recall")}
    for name, row in areas.items():
        assert abs(row["auroc,none"] - 0.5) < 3.5 * row["auroc_stderr,none"], f"{name}: the control saw no member"

    monkeypatch.setattr("transformers.Trainer.train", None)
    assert main(["demo", "--output", str(small)]) == 0
    assert _tables(capfd.readouterr().out) == _tables(first)


def test_its_study_has_the_three_interventions_and_their_controls() -> None:
    study = load_study(demo.STUDY, [])
    assert study.controls == {"non_vulnerable": "random_drop", "bottleneck": "same_params", "nonorm": "vanilla"}
    assert len(study.seeds) == 1


def _tables(printed: str) -> str:
    """What is printed at the end, without the last line, which says how long it took."""
    return printed[printed.index("AUROC is the chance") :].rpartition("Took ")[0]
