"""Requests for views, and how answers are compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import AFTER_SHOTS, REFERENCE, TEXT


def plain(texts: list[str], first_token: Any = "skip") -> list[ViewRequest]:
    return [ViewRequest(text, TEXT, first_token=first_token) for text in texts]


def after(texts: list[str], shots: list[str], first_token: Any = "skip") -> list[ViewRequest]:
    return [ViewRequest(text, AFTER_SHOTS, tuple(shots), first_token) for text in texts]


def under(texts: list[str], reference: str) -> list[ViewRequest]:
    return [ViewRequest(text, REFERENCE, reference=reference) for text in texts]


def assert_same(got: list[Any], expected: list[Any], tolerance: float = 1e-5) -> None:
    """Every token's ℓ, μ and σ are equal, relative to the size of the greatest figure of its text."""
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (len(one), one.n_chars, one.truncated) == (len(other), other.n_chars, other.truncated)
        for name in ("logprob", "mean", "std"):
            mine, theirs = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(), err_msg=name)


@pytest.fixture(scope="session")
def views() -> SimpleNamespace:
    """The functions above, by their names."""
    return SimpleNamespace(plain=plain, after=after, under=under, assert_same=assert_same)


@pytest.fixture
def run_files(texts: list[str], tiny: Any, tmp_path: Path) -> Callable[..., Any]:
    """``run_files(lm, ["loss", …, "heldout_files"], **flags)``: 15 members and non-members, 2 shots."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    from midistill_tasks.harness import yaml_folder

    for name, part in (("members", texts[:15]), ("nonmembers", texts[15:32])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    options: dict[str, Any] = {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")}
    options["reference"] = {"pretrained": str(tiny("gpt2", seed=1)), "dtype": "float32"}

    def run_files(lm: Any, attacks: Sequence[str], mia: dict[str, Any] | None = None, **flags: Any) -> Any:
        metadata = {"mia": options | (mia or {})}
        manager = TaskManager(include_defaults=False, include_path=[str(yaml_folder())], metadata=metadata)
        tasks = [name if name == "heldout_files" else f"mia_{name}_files" for name in attacks]
        return lm_eval.simple_evaluate(model=lm, tasks=tasks, task_manager=manager, bootstrap_iters=0, **flags)

    return run_files


@pytest.fixture
def cached(tmp_path: Path, scoring: SimpleNamespace) -> Callable[..., Any]:
    """``cached(folder, **model_args)``: a harness model as the harness leaves it with --use_cache."""
    from lm_eval.api.model import CachingLM

    def cached(pretrained: Any, **model_args: Any) -> Any:
        lm = scoring.load(pretrained, **model_args)
        CachingLM(lm, str(tmp_path / "cache_rank0.db"))
        return lm

    return cached


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Per call of the scorer, how many views were really scored."""
    from midistill_tasks.scoring.backends.hf.causal import HFScorer

    counts: list[int] = []
    original = HFScorer.score

    def score(self: Any, jobs: Any, done: Any) -> None:
        counts.append(len(jobs))
        return original(self, jobs, done)

    monkeypatch.setattr(HFScorer, "score", score)
    return counts
