"""A shard of a split: what it judges and writes, and that the shards together are the run without them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midistill_tasks import load_stats
from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.results.reader import read_run
from midistill_tasks.stats.parts import parts_below

from .conftest import N

ATTACKS = ("loss", "minkpp", "ref", "recall", "lowercase", "dcpdd", "combined", "strongest")
TASKS = [f"mia_{name}_files" for name in ATTACKS]
ARRAYS = ("logprob", "mean", "std", "frequency", "gradient")


@pytest.fixture(scope="module")
def made(
    files: dict[str, Any], tiny: Callable[..., Path], scoring: SimpleNamespace, manager_of: Any, tmp_path_factory: Any
) -> SimpleNamespace:
    """Attacks of every kind on a whole split and on three shards of it, one text at a time."""
    import lm_eval

    lm = scoring.load(tiny("gpt2"), batch_size=1)
    folder = tmp_path_factory.mktemp("shards")
    reference = {"pretrained": str(tiny("gpt2", seed=1)), "dtype": "float32"}

    def run(**options: Any) -> Any:
        metadata = {"mia": files | {"reference": reference} | options, "pretrained": "org/model"}
        manager = manager_of(metadata)
        return lm_eval.simple_evaluate(model=lm, tasks=TASKS, task_manager=manager, bootstrap_iters=0)

    run(save_stats=str(folder / "whole"))
    results = [run(save_stats=str(folder / "shards"), shard=f"{number}/3") for number in (1, 2, 3)]
    return SimpleNamespace(whole=folder / "whole", shards=folder / "shards", results=results)


def test_shards_hold_what_the_run_without_them_holds(made):
    names = sorted(path.name for path in made.shards.rglob("*.parquet"))
    assert names == [f"files-shard-{number}-of-3.parquet" for number in (1, 2, 3)]
    whole, joined = load_stats(made.whole), load_stats(made.shards)
    assert joined[["id", "view", "label", "cluster", "n_chars"]].equals(
        whole[["id", "view", "label", "cluster", "n_chars"]]
    )
    assert joined.attrs["midistill"]["data_sha256"] == whole.attrs["midistill"]["data_sha256"]
    for name in ARRAYS:
        for one, other in zip(joined[name], whole[name], strict=True):
            if one is not None or other is not None:
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(joined["frequency"], whole["frequency"], strict=True):  # counted in all texts, not a shard's
        assert (one is None) == (other is None)


def test_the_joined_figures_are_those_of_the_run_to_the_bit(made, capsys):
    assert main(["attack", str(made.whole)]) == 0
    whole = capsys.readouterr().out
    assert main(["attack", str(made.shards)]) == 0
    assert capsys.readouterr().out == whole
    assert "| dcpdd" in whole


def test_a_shard_has_no_figures_and_says_so(made):
    result = made.results[1]
    row = result["results"]["mia_loss_files"]
    assert math.isnan(row["auroc,none"])
    assert row["auroc_stderr,none"] == "N/A"
    assert len(result["samples"]["mia_loss_files"]) == 2 * N // 3
    assert result["configs"]["mia_loss_files"]["metadata"]["midistill"]["shard"] == "2/3"
    part = parts_below(made.shards)[0][1]
    assert part.texts == 2 * N // 3
    assert part.places.tolist() == list(range(2 * N // 3, 4 * N // 3))


def test_a_report_of_a_shard_alone_says_what_to_do(tmp_path):
    about = {"attack": "loss", "split": "files", "shard": "1/2"}
    configs = {"mia_loss_files": {"metadata": {"midistill": about}}}
    (tmp_path / "results_2026-01-01T00-00-00.json").write_text(json.dumps({"results": {}, "configs": configs}))
    with pytest.raises(InputError, match="shards have no figures until `midistill attack STATS"):
        read_run(tmp_path)


def test_the_sentence_is_said_once_and_the_run_ends_well(run, said, tmp_path, files, monkeypatch):
    from midistill_tasks.results import missing

    monkeypatch.setattr(missing, "_why", {})
    run("mia_loss_files,mia_mink_files", {"shard": "1/2", "save_stats": str(tmp_path)})
    assert len(said("a shard has no figures: `midistill attack")) == 1
    missing.say()  # does not exit with 1


@pytest.mark.parametrize(
    ("options", "flags", "task", "message"),
    [
        ({"shard": "1/2"}, {}, "mia_loss_files", "'shard' 1/2 gives statistics and no figures: say where"),
        ({"shard": "3/2", "save_stats": "x"}, {}, "mia_loss_files", "option 'shard' is NUMBER/OF"),
        ({"shard": "1/2", "save_stats": "x"}, {"limit": 4}, "mia_loss_files", "leave --limit and --samples out"),
        ({"shard": "1/99", "save_stats": "x"}, {}, "mia_loss_files", "99 shards of 48 documents: .* use at most 48"),
        ({"shard": "1/2", "save_stats": "x"}, {}, "mia_samia_files", "has the model write texts.*: run it without"),
    ],
)
@pytest.mark.usefixtures("no_forward")
def test_what_cannot_be_a_shard_is_said_before_any_forward(run, options, flags, task, message):
    with pytest.raises(InputError, match=message):
        run(task, options, **flags)


def test_texts_that_must_not_be_logged_are_in_no_shard(run, tmp_path):
    run("mia_loss_files", {"shard": "2/2", "save_stats": str(tmp_path), "log_text": False})
    (path,) = tmp_path.rglob("*.parquet")
    from midistill_tasks.stats.file import reading

    with reading(path) as file:
        assert file.parquet.read(columns=["text"])["text"].null_count == N
