"""What the harness's own flags do to MIA tasks."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import N, write_rows

Run = Callable[..., dict[str, Any]]
CANARY = "xylophonequartz"
TASK = "mia_loss_files"


def by_id(result: dict[str, Any], task: str = TASK) -> dict[str, float]:
    return {sample["doc"]["id"]: sample["doc"]["score"] for sample in result["samples"][task]}


def test_limit_keeps_members_and_nonmembers_balanced(run: Run):
    for limit in (2, 6, 7, 0.25):
        labels = [sample["doc"]["label"] for sample in run(TASK, limit=limit)["samples"][TASK]]
        assert abs(2 * sum(labels) - len(labels)) <= 1
        assert len(labels) == (limit if limit >= 1 else math.ceil(2 * N * limit))


def test_limit_records_what_was_scored(run: Run):
    full, part = run(TASK), run(TASK, limit=6)
    records = [result["configs"][TASK]["metadata"]["midistill"] for result in (full, part)]
    assert records[0]["data_sha256"] != records[1]["data_sha256"]


def test_unsorted_samples_carry_the_right_ids(run: Run):
    full = by_id(run(TASK))
    chosen = run(TASK, samples={TASK: [31, 4, 7, 22]})
    docs = list(full)
    assert by_id(chosen) == pytest.approx({docs[i]: full[docs[i]] for i in (4, 7, 22, 31)})


def test_predict_only_scores_and_gives_no_figure(run: Run):
    result = run("mia_loss_files,mia_recall_files", predict_only=True)
    assert set(result["results"][TASK]) == {"name", "alias", "sample_len", "bypass,none", "bypass_stderr,none"}
    assert by_id(result) == pytest.approx(by_id(run(TASK)))


@pytest.fixture
def chat_model(lm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm.tokenizer, "chat_template", "{% for m in messages %}[{{ m['content'] }}]{% endfor %}")


@pytest.mark.usefixtures("chat_model")
def test_prompting_flags_change_no_score_and_this_is_said_once(run: Run, said):
    plain = run("mia_loss_files,mia_mink_files")
    flags = {"apply_chat_template": True, "system_instruction": "Be kind.", "num_fewshot": 3, "gen_kwargs": "top_p=0.5"}
    prompted = run("mia_loss_files,mia_mink_files", **flags)
    assert prompted["results"] == plain["results"]
    assert len(said("--apply_chat_template and --system_instruction does not apply")) == 1
    assert len(said(f"num_fewshot has been set to 0 for {TASK}")) == 1
    assert prompted["n-shot"][TASK] == 0


def test_cache_requests_is_off_and_this_is_said_once(run: Run, said, monkeypatch, tmp_path, people):
    monkeypatch.setattr("lm_eval.caching.cache.PATH", str(tmp_path / "cache"))
    first = run("mia_loss_files,mia_mink_files", cache_requests=True)
    other = write_rows(tmp_path / "other.jsonl", [{"text": f"{text} And so on."} for text in people[0]])
    second = run("mia_loss_files,mia_mink_files", {"members": str(other)}, cache_requests=True)
    assert len(said("MIA tasks do not use --cache_requests")) == 1
    assert len(set(by_id(first)) & set(by_id(second))) == N  # the non-members
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def secret(people: tuple[list[str], list[str]], tmp_path: Path) -> dict[str, Any]:
    """Options for texts with a word that must not be written anywhere."""
    options: dict[str, Any] = {"shots": 2, "log_text": False}
    for name, texts in zip(("members", "nonmembers"), people, strict=True):
        rows = [{"text": f"{CANARY} {text}"} for text in texts]
        options[name] = str(write_rows(tmp_path / f"{name}.jsonl", rows))
    return options


def test_log_text_false_writes_no_text_anywhere(command, tiny, secret, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    printed = command(
        *("--tasks", "mia_files", "--model", "hf", "--device", "cpu", "--write_out", "--show_config"),
        *("--model_args", f"pretrained={tiny('gpt2')},dtype=float32", "--metadata", json.dumps({"mia": secret})),
        *("--output_path", tmp_path / "out", "--log_samples", "--batch_size", "8"),
    )
    written = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len([path for path in written if path.name.startswith("samples_")]) == 7
    assert "auroc" in printed.out
    for content in (*printed, *written.values(), caplog.text):
        assert CANARY not in content
    rows = next(text for path, text in written.items() if "mia_recall_files" in path.name)
    docs = [json.loads(line)["doc"] for line in rows.splitlines()]
    assert set(docs[0]) == {"id", "label", "cluster", "name", "score", "n_tokens", "truncated", "blind_rank"}
    assert docs[0]["name"].endswith(".jsonl:1")


def test_log_text_false_changes_no_figure(run: Run):
    assert run("mia_recall_files", {"log_text": False})["results"] == run("mia_recall_files")["results"]


def _wandb_logger(result: dict[str, Any]) -> Any:
    """The harness's logger without a connection: `wandb` itself is not needed for the tables."""
    from lm_eval.loggers.wandb_logger import WandbLogger

    logger = WandbLogger.__new__(WandbLogger)
    logger.post_init({key: value for key, value in result.items() if key != "samples"})
    logger._get_config()
    return logger


def test_the_tables_of_the_wandb_logger_hold_scores_and_with_log_text_false_no_text(run: Run, secret):
    result = run("mia_files", metadata={"mia": secret})
    logger = _wandb_logger(result)
    summary, figures = logger._sanitize_results_dict()
    assert figures[f"{TASK}/auroc"] == result["results"][TASK]["auroc,none"]
    for task, samples in result["samples"].items():  # mia_ref_files among them, which reports nothing
        table = logger._generate_dataset(samples, logger.task_configs[task])
        assert len(table) == 2 * N
        assert CANARY not in table.to_json()
    assert table["auroc"][0][1] == result["samples"][task][0]["doc"]["score"]
    assert CANARY not in json.dumps(summary)


def test_write_out_prints_a_document(run: Run, said, people):
    run(TASK, write_out=True)
    (line,) = said("context prompt (starting on next line)")
    assert any(text in line for text in people[0])


def test_no_bootstrap_iterations_leave_our_errors_as_they_are(run: Run):
    without, with_some = run(TASK, bootstrap_iters=0), run(TASK, bootstrap_iters=10)
    assert without["results"] == with_some["results"]
    assert without["results"][TASK]["auroc_stderr,none"] > 0


def test_batch_size_and_use_cache_change_no_figure(run: Run, lm, monkeypatch, tmp_path):
    monkeypatch.setattr(lm, "cache_hook", lm.cache_hook)  # which --use_cache would leave behind
    plain = by_id(run("mia_recall_files"), "mia_recall_files")
    for _ in ("fills the cache", "reads it"):
        cached = by_id(run("mia_recall_files", use_cache=str(tmp_path / "cache")), "mia_recall_files")
        assert cached == pytest.approx(plain, rel=1e-6)
    monkeypatch.setattr(lm, "batch_size_per_gpu", 1)
    assert by_id(run("mia_recall_files"), "mia_recall_files") == pytest.approx(plain, rel=1e-5)


def test_no_log_samples_gives_the_same_figures(run: Run):
    assert run(TASK, log_samples=False)["results"] == run(TASK)["results"]


def test_a_run_from_a_configuration_file(command, tiny, files, tmp_path):
    config = {
        "model": "hf",
        "model_args": {"pretrained": str(tiny("gpt2")), "dtype": "float32"},
        "tasks": [TASK],
        "device": "cpu",
        "batch_size": 8,
        "metadata": {"mia": files | {"n": 10}},
        "output_path": str(tmp_path / "out"),
    }
    (tmp_path / "run.yaml").write_text(json.dumps(config))  # JSON is YAML
    assert f"|{TASK}" in command("run", "--config", tmp_path / "run.yaml").out
    (results,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(results.read_text())["n-samples"][TASK] == {"original": 20, "effective": 20}


def test_the_harness_validates_our_tasks(command):
    assert "All tasks found and valid" in command("validate", "--tasks", "mia_files,mia_loss_wikitext").out
