"""Made-up output folders of the harness, and tasks in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.offline.attacks import Attacked
from midistill_tasks.results.run import AttackResult, Run
from midistill_tasks.results.strict import strict_sample
from midistill_tasks.stats.parts import Part
from midistill_tasks.stats.texts import docs

DATE = "2026-01-02T03-04-05.678901"


def metadata(attack: str, split: str, labels: Mapping[str, int], **changes: Any) -> dict[str, Any]:
    listed = "\n".join(sorted(f"{name}{label}" for name, label in labels.items()))
    members = sum(labels.values())
    return {
        "attack": attack,
        "split": split,
        "valid_for": "made-up models",
        "independent_coins": False,
        "options": {"k": 0.2, "shots": 2, "first_token": "skip", "reference": None, "as_published": False, "n": None},
        "counts": {
            **{"empty": 0, "duplicates": 0, "both_sides": 0, "shots": 0, "unbalanced": 0},
            **{"members": members, "nonmembers": len(labels) - members},
        },
        "unscored_reasons": {},
        "data_sha256": hashlib.sha256(listed.encode()).hexdigest(),
        "versions": {"midistill": "0.1.0", "numpy": "2"},
    } | changes


def _task(
    labels: Sequence[int],
    scores: Sequence[float],
    clusters: Sequence[str] | None = None,
    attack: str = "loss",
    split: str = "made",
    blind: tuple[float, float] = (0.5, 0.05),
    **changes: Any,
) -> AttackResult:
    names = [f"{number:016x}" for number in range(len(labels))]
    items = zip(map(int, labels), map(float, scores), names, clusters or names, strict=True)
    return AttackResult(
        name=f"mia_{attack}_{split}",
        attack=attack,
        split=split,
        version="1.0",
        path=Path(f"samples_mia_{attack}_{split}_{DATE}.jsonl"),
        items=tuple(Scored(*item) for item in items),
        texts={name: f"text {name}" for name in names},
        figures={"blind_auroc": Estimate(*blind)},
        metadata=metadata(attack, split, dict(zip(names, map(int, labels), strict=True)), **changes),
    )


def _run(model: str, *tasks: AttackResult, **changes: Any) -> Run:
    content: dict[str, Any] = {"utility": {}, "versions": {"numpy": "2"}, "config": {}, "skipped": {}}
    content |= changes
    return Run(model=model, path=Path(model), date=DATE, tasks={task.name: task for task in tasks}, **content)


@pytest.fixture(scope="session")
def make_task() -> Callable[..., AttackResult]:
    """``make_task(labels, scores, clusters=None, attack=, split=, blind=, **metadata)``."""
    return _task


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """``make_run(model, *tasks, **fields)``."""
    return _run


@pytest.fixture(scope="session")
def draw() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """``draw(rng, n, shift)``: balanced labels in random order, and normal scores, members higher by `shift`."""

    def draw(rng: np.random.Generator, n: int, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.arange(n) % 2)
        return labels, rng.normal(size=n) + shift * labels

    return draw


@pytest.fixture(scope="session")
def write_output() -> Callable[..., Path]:
    """Writes what lm_eval writes of a model, as far as we read it, and returns the results file.

    ``write_output(folder, labels, {attack: scores}, model=, split=, date=, ids=, text=, utility=, version=, **more)``;
    scores by position of `labels`, utility ``{task: {metric: (value, stderr, higher_is_better)}}``, `more` for what the
    run says under ``metadata.midistill``.
    """

    def write(
        folder: Path,
        labels: Sequence[int],
        scores: Mapping[str, Sequence[float]],
        model: str = "a-model",
        split: str = "made",
        date: str = DATE,
        ids: Sequence[str] | None = None,
        text: Callable[[str], str] | None = lambda name: f"words of {name}",
        utility: Mapping[str, Mapping[str, tuple[float, float | str, bool]]] | None = None,
        version: float = 1.0,
        **changes: Any,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        names = ids or [f"{number:016x}" for number in range(len(labels))]
        described = dict(zip(names, map(int, labels), strict=True))
        content: dict[str, Any] = {"results": {}, "configs": {}, "versions": {}, "higher_is_better": {}}
        for attack, values in scores.items():
            task = f"mia_{attack}_{split}"
            content["configs"][task] = {"metadata": {"midistill": metadata(attack, split, described, **changes)}}
            content["versions"][task] = version
            content["results"][task] = {
                **{"name": task, "alias": task, "auroc,none": 0.5, "auroc_stderr,none": 0.1},
                **{"blind_auroc,none": 0.5, "blind_auroc_stderr,none": 0.05, "blind_auroc_stderr_stderr,none": "N/A"},
            }
            lines = []
            for name, label, score in zip(names, labels, values, strict=True):
                doc = {"id": name, "label": int(label), "cluster": name, "score": float(score), "n_tokens": 9}
                doc = strict_sample(doc)
                doc |= {} if text is None else {"text": text(name)}
                lines.append(json.dumps({"doc_id": len(lines), "doc": doc, "filtered_resps": [str(score)]}) + "\n")
            (folder / f"samples_{task}_{date}.jsonl").write_text("".join(lines))
        for task, row in (utility or {}).items():
            content["configs"][task] = {"metadata": {"version": 1.0}}
            content["results"][task] = {"alias": task}
            for metric, (value, stderr, _) in row.items():
                content["results"][task] |= {f"{metric},none": value, f"{metric}_stderr,none": stderr}
            content["higher_is_better"][task] = {metric: better for metric, (_, _, better) in row.items()}
        content["group_subtasks"] = {"mia_made": [f"mia_{attack}_{split}" for attack in scores]}
        content["results"]["mia_made"] = {"alias": "mia_made", "auroc,none": 0.5}
        content["higher_is_better"]["mia_made"] = {"auroc": False}
        content |= {"model_name": model, "config": {"model": "hf", "model_args": {"pretrained": model}}}
        content |= {"lm_eval_version": "0.4.13", "transformers_version": "5"}
        path = folder / f"results_{date}.json"
        path.write_text(json.dumps(content))
        return path

    return write


def samples(parts: Sequence[Part], one: Attacked) -> Iterator[dict[str, Any]]:
    """All lines of an attack's samples file."""
    for name in one.scores.filters:
        yield from (one.sample(row, name, doc) for row, doc in enumerate(docs(parts)))
