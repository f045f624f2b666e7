from __future__ import annotations

import json
import math
from importlib.metadata import EntryPoint

import datasets
import huggingface_hub
import numpy as np
import pytest
from lm_eval.api import registry
from made_scores import draw

from midistill_tasks.metrics import METRICS, roc

TASK = """
task: plain
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{text}}}}"
doc_to_target: " x"
process_results: !function plain.process_results
metric_list:
  - {{metric: mia_auroc, aggregation: mia_auroc, higher_is_better: false}}
  - {{metric: mia_auroc_stderr, aggregation: mia_auroc_stderr, higher_is_better: false}}
  - {{metric: mia_tpr_at_1pct_fpr, aggregation: mia_tpr_at_1pct_fpr, higher_is_better: false}}
  - {{metric: mia_blind_auroc, aggregation: mia_blind_auroc, higher_is_better: false}}
"""
PROCESS = """
def process_results(doc, results):
    pair = (doc["label"], doc["score"])
    words = (doc["label"], doc["text"])
    return {"mia_auroc": pair, "mia_auroc_stderr": pair, "mia_tpr_at_1pct_fpr": pair, "mia_blind_auroc": words}
"""


@pytest.fixture(scope="module")
def registration():
    from midistill_tasks.harness import metrics as registration

    return registration


def test_everything_is_registered_under_its_name_and_again_changes_nothing(registration):
    registration.register()
    for name, metric in METRICS.items():
        assert registry.get_metric(f"mia_{name}") is registration.item
        assert registry.get_aggregation(f"mia_{name}") is registry.get_metric_aggregation(f"mia_{name}")
        assert (f"mia_{name}_stderr" in registry.aggregation_registry) == (metric.stderr is not None)
        if metric.higher_is_better is not None:
            assert registry.is_higher_better(f"mia_{name}") is metric.higher_is_better
    assert registry.get_aggregation("mia_blind_auroc")([]) != 0


def test_every_aggregation_can_be_an_entry_point(registration):
    for name, aggregation in registration.AGGREGATIONS.items():
        value = f"midistill_tasks.harness.metrics:{name.replace('.', '_')}"
        assert EntryPoint(name, value, "lm_eval.aggregations").load() is aggregation
        assert value == f"{aggregation.__module__}:{aggregation.__name__}"  # how the harness tells an upgrade


def test_an_aggregation_never_raises(registration, caplog):
    for name, aggregation in registration.AGGREGATIONS.items():
        for rows in ([], [(7, 0.1)], ["nonsense"], [None]):
            figure = aggregation(rows)
            assert figure == "N/A" if name.endswith("_stderr") else math.isnan(figure)
    assert "label 7 must be 1 (member) or 0 (non-member)" in caplog.text


def test_a_plain_yaml_task_uses_them(registration, tmp_path, monkeypatch):
    import lm_eval
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for constants in (datasets.config, huggingface_hub.constants):  # or a machine without a network waits for it
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    labels, scores = draw(np.random.default_rng(0), 240)
    rows = [
        {"label": int(label), "score": float(score), "text": f"text {'old' if label else 'new'} {i}"}
        for i, (label, score) in enumerate(zip(labels, scores, strict=True))
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "plain.yaml").write_text(TASK.format(data=data), encoding="utf-8")
    (tmp_path / "plain.py").write_text(PROCESS, encoding="utf-8")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    results = lm_eval.simple_evaluate(model="dummy", tasks=["plain"], task_manager=manager, limit=None)["results"]
    figures = results["plain"]
    assert figures["mia_auroc,none"] == roc.auroc(labels, scores)
    assert figures["mia_auroc_stderr,none"] == pytest.approx(roc.delong_stderr(labels, scores))
    assert figures["mia_tpr_at_1pct_fpr,none"] == roc.tpr_at_fpr(labels, scores, 0.01)
    assert figures["mia_blind_auroc,none"] == 1.0
