"""From texts to figures, through the harness."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from midistill_tasks import __version__
from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.harness.expand import groups
from midistill_tasks.harness.keys import DEFAULT_METRICS
from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.metrics.blind import Blind, blind_auroc
from midistill_tasks.metrics.roc import auroc
from midistill_tasks.metrics.thresholds import folds

from .conftest import N, write_rows

Run = Callable[..., dict[str, Any]]
HEADING, *SIX = groups()["mia"]
STRONG = ["minkpp", "ref", "recall", "ez", "wbc", "combined"]
ROW = f"mia_{HEADING}_files"
GROUP = [f"mia_{attack}_files" for attack in SIX]


@pytest.fixture(scope="module")
def group(lm: Any, files: dict[str, Any], tiny: Any, manager_of: Any) -> dict[str, Any]:
    """All attacks on the texts, with a reference model."""
    import lm_eval

    metadata = {"mia": files | {"reference": {"pretrained": str(tiny("llama")), "dtype": "float32"}}}
    return lm_eval.simple_evaluate(model=lm, tasks=["mia_files"], task_manager=manager_of(metadata), bootstrap_iters=0)


def test_a_group_gives_every_attack_its_row_with_all_figures_and_their_errors(group):
    assert group["group_subtasks"]["mia_files"] == [ROW, *GROUP]
    for task in GROUP:
        row = group["results"][task]
        for name in DEFAULT_METRICS[:-1]:
            assert isinstance(row[f"{name},none"], float), (task, name)
            assert isinstance(row[f"{name}_stderr,none"], float) or math.isnan(row[f"{name},none"]), (task, name)
        assert row["sample_len"] == 2 * N


def test_figures_are_those_of_the_metrics_on_the_scores_in_the_samples(group):
    for task in GROUP:
        row, samples = group["results"][task], group["samples"][task]
        items = [Scored(*sample["auroc"]) for sample in samples]
        assert [item.score for item in items] == [sample["doc"]["score"] for sample in samples]
        for name in ("auroc", "balanced_acc", "member_acc", "nonmember_acc"):
            assert row[f"{name},none"] == METRICS[name].value(items)
            assert row[f"{name}_stderr,none"] == METRICS[name].stderr(items)


def test_the_row_to_publish_is_of_the_attack_that_is_strongest_on_the_other_half(group):
    samples = {sample["doc"]["id"]: sample["doc"] for sample in group["samples"][ROW]}
    items = [Scored(doc["label"], math.nan, doc["id"], doc["cluster"]) for doc in samples.values()]
    fold = dict(zip(samples, folds(items).tolist(), strict=True))
    own = {a: {s["doc"]["id"]: s["doc"]["score"] for s in group["samples"][f"mia_{a}_files"]} for a in SIX}
    areas, chosen = [], []
    for half in (0, 1):
        sides = [[id for id in samples if (fold[id] == half) == judged] for judged in (True, False)]
        judged, other = (np.array([samples[id]["label"] for id in side]) for side in sides)
        leaks = {a: auroc(other, [own[a][id] for id in sides[1]]) - 0.5 for a in SIX}
        best = max(leaks, key=lambda a: abs(leaks[a]))
        chosen.append(best)
        assert {samples[id]["attack"] for id in sides[0]} == {best}
        areas.append(auroc(judged, [math.copysign(1, leaks[best]) * own[best][id] for id in sides[0]]))
    for id, doc in samples.items():
        assert doc["scores"] == {a: pytest.approx(own[a][id]) for a in SIX}
    row = group["results"][ROW]
    assert row["auroc,none"] == pytest.approx(np.mean(areas))
    assert row["auroc_stderr,none"] > 0
    assert set(row) >= {"tpr_at_1pct_fpr,none", "blind_auroc,none"}
    assert "balanced_acc,none" not in row  # one threshold for scores that do not compare
    assert group["configs"][ROW]["metadata"]["midistill"]["chosen"] == chosen


def test_the_stderr_column_of_the_table_holds_our_errors(group):
    from lm_eval.utils import make_table

    row = group["results"]["mia_loss_files"]
    lines = [line for line in make_table(group).splitlines() if "auroc" in line and "blind" not in line]
    cells = [cell.strip() for cell in lines[0].split("|")]
    assert cells[-2] == f"{row['auroc_stderr,none']:.4f}"
    assert cells[-4] == f"{row['auroc,none']:.4f}"


def test_scores_are_the_attacks_on_the_texts(group, scoring, lm, files, people, tiny):
    members, nonmembers = people
    reference = json.dumps({"dtype": "float32", "pretrained": str(tiny("llama"))})
    texts = [*members, *nonmembers[2:]]
    expected = scoring.attack(lm, texts, nonmembers[:2], reference, without=set(ATTACKS) - set(SIX))
    for name in SIX:
        scores = {sample["doc"]["text"]: sample["doc"]["score"] for sample in group["samples"][f"mia_{name}_files"]}
        np.testing.assert_allclose([scores[text] for text in texts], expected[name], rtol=1e-5, atol=1e-6)


def test_a_sample_holds_label_score_and_a_hash_of_the_text(group, people):
    members, nonmembers = people
    for task in GROUP:
        for sample in group["samples"][task]:
            doc = sample["doc"]
            assert doc["id"] == hashlib.sha256(doc["text"].encode()).hexdigest()[:16]
            assert doc["text"] in (members if doc["label"] else nonmembers)
            assert tuple(sample["auroc"]) == (doc["label"], doc["score"], doc["id"], doc["cluster"])
            assert doc["n_tokens"] > 0


def test_shots_are_never_scored_by_any_attack(group, people):
    shots = people[1][:2]
    for task in GROUP:
        assert not {sample["doc"]["text"] for sample in group["samples"][task]} & set(shots)


def test_the_blind_baseline_is_in_every_task_and_is_the_split_s(group):
    docs = [sample["doc"] for sample in group["samples"]["mia_loss_files"]]
    value, error, ranks = blind_auroc([doc["text"] for doc in docs], [doc["label"] for doc in docs])
    row = group["results"][ROW]
    assert (row["blind_auroc,none"], row["blind_auroc_stderr,none"]) == (value, error)
    for task in GROUP:
        assert "blind_auroc,none" not in group["results"][task]  # once a split
        assert group["configs"][task]["metadata"]["midistill"]["blind_auroc"] == {"value": value, "stderr": error}
        ranked = {sample["doc"]["id"]: sample["doc"]["blind_rank"] for sample in group["samples"][task]}
        assert [ranked[doc["id"]] for doc in docs] == ranks.tolist()


def test_the_blind_baseline_is_computed_once_for_all_attacks(run: Run, monkeypatch):
    from midistill_tasks.harness import figures

    calls = []
    monkeypatch.setattr(
        figures, "blind_auroc", lambda *args: calls.append(args) or Blind(0.5, 0.1, np.full(len(args[0]), 0.5))
    )
    run("mia_loss_files,mia_mink_files,mia_recall_files")
    assert len(calls) == 1


def test_a_shift_that_beats_the_attack_is_said(run: Run, said, tmp_path, people):
    shifted = write_rows(tmp_path / "m.jsonl", [{"text": f"{text} once upon a time"} for text in people[0]])
    result = run("mia_loss_files", {"members": str(shifted)})["results"]["mia_loss_files"]
    assert result["blind_auroc,none"] == 1.0
    assert len(said("a bag-of-words classifier that never sees the model reaches AUROC 1.000")) == 1


def test_results_say_how_they_came_about_in_valid_json(group, files, people):
    written = json.loads(json.dumps(group["configs"], allow_nan=False))
    record = written["mia_mink_files"]["metadata"]["midistill"]
    assert record["attack"] == "mink"
    assert record["split"] == "files"
    assert "saw the members" in record["valid_for"]
    assert record["options"]["members"] == files["members"]
    assert record["counts"] | {"shots": 2, "members": N, "nonmembers": N, "unscored": 0} == record["counts"]
    assert record["counts"]["truncated"] == 0
    assert record["versions"]["midistill"] == __version__
    assert set(record["versions"]) == {"midistill", "lm_eval", "torch", "transformers", "numpy"}
    members, nonmembers = people
    lines = [f"{hashlib.sha256(text.encode()).hexdigest()[:16]}1" for text in members]
    lines += [f"{hashlib.sha256(text.encode()).hexdigest()[:16]}0" for text in nonmembers[2:]]
    assert record["data_sha256"] == hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def test_the_run_prints_for_which_models_the_labels_are_valid_once_per_split(run: Run, said):
    run("mia_loss_files,mia_mink_files")
    for sentence in ("labels are valid for the model of which you know", "shots 2, members 24, nonmembers 24"):
        assert len(said(f"[files] {sentence}")) == 1
    run("mia_loss_files")
    assert len(said("[files] labels are valid for")) == 2  # a new run in the same process says it again


def test_a_group_leaves_the_reference_attack_out_with_one_warning_and_no_forward_for_it(
    run: Run, said, lm, monkeypatch
):
    seen = []
    token_stats = type(lm).mia_token_stats
    monkeypatch.setattr(
        type(lm), "create_from_arg_obj", lambda *args, **kwargs: pytest.fail("a reference model was loaded")
    )
    monkeypatch.setattr(
        type(lm), "mia_token_stats", lambda lm, requests: seen.append(requests) or token_stats(lm, requests)
    )
    from midistill_tasks.scoring.backends.hf.causal import HFScorer

    jobs: list[Any] = []
    score = HFScorer.score
    monkeypatch.setattr(HFScorer, "score", lambda self, given, done: jobs.extend(given) or score(self, given, done))
    results = run("mia_files")["results"]
    assert len(jobs) == 2 * 2 * N  # the text and the text after the shots, each once for all attacks
    assert len(seen) == 1
    assert not [key for key in results["mia_ref_files"] if "auroc" in key]
    assert isinstance(results["mia_loss_files"]["auroc,none"], float)
    assert len(said("mia_ref_files is left out: it needs a reference model")) == 1
    assert said("not scored") == []


def test_the_reference_attack_alone_says_how_to_give_a_reference_before_any_forward(run: Run, no_forward):
    with pytest.raises(
        InputError, match=r"mia_ref_files needs a reference model.*\"reference\": \"EleutherAI/pythia-70m\""
    ):
        run("mia_loss_files,mia_ref_files")


def test_a_reference_that_does_not_exist_stops_before_any_forward(run: Run, no_forward, tmp_path):
    with pytest.raises(InputError, match=r"the reference model '.*nowhere' cannot be loaded"):
        run("mia_files", {"reference": str(tmp_path / "nowhere")})


def test_the_paper_s_group_holds_its_four_data_sets_with_all_attacks(manager_of, monkeypatch, people):
    texts = [text for side in people for text in side]
    rows = {"text": texts, "input": texts, "label": [1] * N + [0] * (N + 2)}
    data = datasets.Dataset.from_dict(rows)  # in place of downloads
    monkeypatch.setattr("midistill_tasks.splits.documents.load_split", lambda *args: data)
    loaded = manager_of().load("mia_paper")
    splits = ["wikimia_64", "mimir_arxiv", "bookcorpus", "openwebtext"]
    assert loaded["group_map"]["mia_paper"] == [f"mia_{split}" for split in splits]
    for split in splits:
        assert loaded["group_map"][f"mia_{split}"] == [f"mia_{attack}_{split}" for attack in (HEADING, *SIX)]
    assert {task for task, built in loaded["tasks"].items() if built.keys.left_out} == {
        f"mia_ref_{split}" for split in splits
    }


@pytest.mark.slow
def test_the_other_groups_hold_all_attacks_and_the_strongest_and_what_cannot_pair_tokens_says_so(
    lm, files, tiny, manager_of, said
):
    import lm_eval

    for reference, paired in ((tiny("gpt2", seed=1), True), (tiny("llama"), False)):
        metadata = {"mia": files | {"reference": {"pretrained": str(reference), "dtype": "float32"}, "samples": 1}}
        tasks = ["mia_all_files"] if paired else ["mia_strong_files"]
        result = lm_eval.simple_evaluate(model=lm, tasks=tasks, task_manager=manager_of(metadata), bootstrap_iters=0)
        expected = [name for name in ATTACKS if name != HEADING] if paired else STRONG
        expected = [HEADING, *expected]
        assert result["group_subtasks"] == {tasks[0]: [f"mia_{attack}_files" for attack in expected]}
        for attack in expected:
            if attack == "neighbor":  # nobody named a model that makes them
                assert "auroc,none" not in result["results"].get(f"mia_{attack}_files", {})
                continue
            scored = paired or attack not in ("ez", "wbc")
            assert math.isnan(result["results"][f"mia_{attack}_files"]["auroc,none"]) != scored, attack
    reason = "[mia_wbc_files] 48 of 48 texts are not scored: target and reference have other tokens"
    assert len(said(reason)) == 1


def test_a_tag_is_one_attack_on_every_split_but_the_user_s_own_texts(task_manager):
    from midistill_tasks.splits import SPLITS

    for attack in ATTACKS:
        tagged = task_manager.task_index[f"mia_{attack}"].tags
        assert tagged == {f"mia_{attack}_{split}" for split in SPLITS if split not in ("files", "canaries")}


def test_a_texts_own_cluster_reaches_the_metrics(run: Run, tmp_path, people):
    options = {}
    for name, texts in zip(("members", "nonmembers"), people, strict=True):
        rows = [{"text": text, "cluster": f"{name} {index // 2}"} for index, text in enumerate(texts)]
        options[name] = str(write_rows(tmp_path / f"{name}.jsonl", rows))
    result = run("mia_loss_files", options)
    items = [Scored(*sample["auroc"]) for sample in result["samples"]["mia_loss_files"]]
    assert len({item.cluster for item in items}) == N
    assert result["results"]["mia_loss_files"]["auroc_stderr,none"] == METRICS["auroc"].stderr(items)


def test_an_undefined_figure_is_nan_with_a_warning_and_never_ends_the_run(run: Run, said):
    result = run("mia_loss_files", limit=6)["results"]["mia_loss_files"]
    assert math.isnan(result["tpr_at_1pct_fpr,none"])
    assert result["tpr_at_1pct_fpr_stderr,none"] == "N/A"
    assert math.isnan(result["blind_auroc,none"])
    assert isinstance(result["auroc,none"], float)
    assert len(said("tpr_at_1pct_fpr is NaN")) == 1


def test_order_of_tasks_changes_nothing(run: Run):
    one, other = run("mia_loss_files,mia_recall_files"), run("mia_recall_files,mia_loss_files")
    for task in ("mia_loss_files", "mia_recall_files"):
        assert one["results"][task] == other["results"][task]


def test_the_harness_refuses_a_task_asked_for_twice(run: Run):
    with pytest.raises(ValueError, match="Duplicate task 'mia_loss_files'"):
        run("mia_files,mia_loss_files")


def test_a_user_s_group_averages_our_figures_with_our_errors(run: Run, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "group: mine\ntask: [mia_loss_files, mia_zlib_files]\n"
        "aggregate_metric_list: [{metric: auroc, weight_by_size: false}]\n"
    )
    results = run("mine", folders=[tmp_path])["results"]
    figures = [results[name] for name in ("mia_loss_files", "mia_zlib_files")]
    assert results["mine"]["auroc,none"] == pytest.approx(np.mean([row["auroc,none"] for row in figures]))
    assert isinstance(results["mine"]["auroc_stderr,none"], float)


def test_simple_evaluate_needs_no_more_than_names_and_metadata(lm, tiny, files, manager_of, monkeypatch):
    import lm_eval

    # the harness's own `TaskManager`, without the many seconds that its own tasks take
    monkeypatch.setattr("lm_eval.evaluator.TaskManager", lambda metadata: manager_of(metadata))
    result = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tiny("gpt2")), "dtype": "float32"},
        tasks=["mia_loss_files"],
        device="cpu",
        metadata={"mia": files | {"n": 8}},
    )
    assert result["n-samples"]["mia_loss_files"] == {"original": 16, "effective": 16}


def test_a_results_folder_reads_back(command: Callable[..., Any], tiny, files, tmp_path: Path):
    printed = command(
        *("--tasks", "mia_loss_files", "--model", "hf", "--device", "cpu", "--batch_size", "8"),
        *("--model_args", f"pretrained={tiny('gpt2')},dtype=float32", "--metadata", json.dumps({"mia": files})),
        *("--output_path", tmp_path, "--log_samples"),
    )
    assert "|mia_loss_files" in printed.out
    (results,) = tmp_path.rglob("results_*.json")
    (samples,) = tmp_path.rglob("samples_mia_loss_files_*.jsonl")
    figures = json.loads(results.read_text())["results"]["mia_loss_files"]
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    items = [Scored(*row["auroc"]) for row in rows]
    assert figures["auroc,none"] == METRICS["auroc"].value(items)
    assert {row["resps"][0][0].split("(")[0] for row in rows} == {"TokenStats"}
