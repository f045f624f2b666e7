"""Statistics on disk: what they hold, and that attacks on them are those of the run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_results import samples

from midistill_tasks import load_stats, score_texts
from midistill_tasks.attacks import ATTACKS
from midistill_tasks.cli.attack import _values
from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import parse_options
from midistill_tasks.harness.task import MIATask
from midistill_tasks.metrics.estimate import Estimate
from midistill_tasks.offline.attacks import attack_stats
from midistill_tasks.offline.writing import write
from midistill_tasks.results.reader import read_run
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.splits.bios import biographies
from midistill_tasks.stats.parts import parts_below
from midistill_tasks.stats.tables import load_all
from midistill_tasks.views import LOWER, TEXT

from .conftest import N, write_rows

FEW = {"samples": 1}
"""To generate takes the longest."""


@pytest.fixture(scope="module")
def saved(lm: Any, files: dict[str, Any], tiny: Any, manager_of: Any, tmp_path_factory: Any) -> SimpleNamespace:
    """A run of all attacks: its results, and the folder of its statistics."""
    import lm_eval

    folder = tmp_path_factory.mktemp("saved") / "stats"
    reference = {"pretrained": str(tiny("gpt2", seed=1)), "dtype": "float32"}
    metadata = {"mia": files | {"reference": reference, "save_stats": str(folder)} | FEW, "pretrained": "org/model"}
    result = lm_eval.simple_evaluate(
        model=lm, tasks=["mia_all_files"], task_manager=manager_of(metadata), bootstrap_iters=0
    )
    return SimpleNamespace(result=result, folder=folder)


def test_a_row_a_text_and_view_with_all_arrays_and_how_they_came_about(saved, people, lm, scoring):
    (file,) = saved.folder.rglob("*.parquet")
    assert file.relative_to(saved.folder) == Path("org__model", "files.parquet")
    table = load_stats(saved.folder)
    views = {"text", "reference", "after_shots", "after_member_shots", "lower", "gradient"}
    assert set(table["view"]) == views | {f"swapped_{n}_0.3" for n in range(1, 6)}
    assert len(table) == 11 * 2 * N
    row = table[(table["view"] == "text") & (table["text"] == people[0][5])].iloc[0]
    (expected,) = scoring.ask(lm, [ViewRequest(people[0][5], TEXT)])
    for name in ("logprob", "mean", "std", "greedy", "tokens"):
        np.testing.assert_allclose(row[name], getattr(expected, name), rtol=1e-5)
    assert row["label"] == 1
    assert row["ends"].tolist() == list(expected.ends)
    assert row["n_chars"] == len(people[0][5])
    about = table.attrs["midistill"]
    assert about["model"] == "org/model"
    assert about["options"]["shots"] == 2
    config = saved.result["configs"]["mia_loss_files"]["metadata"]["midistill"]
    assert about["data_sha256"] == config["data_sha256"]
    assert about["model_identity"]


def test_attacks_on_the_file_are_those_of_the_run_to_the_last_figure(saved, tmp_path):
    found, lacking = attack_stats(parts_below(saved.folder)[0], parse_options({}))
    assert set(lacking) == {"neighbor", "samia", "extraction", "petal"}
    assert lacking["samia"] == "it needs the model, which goes on from the texts"
    assert [one.about["attack"] for one in found] == [name for name in ATTACKS if name not in lacking]
    for one in found:
        of_run = {row["doc"]["id"]: row["doc"] for row in saved.result["samples"][one.task]}
        for row in samples(parts_below(saved.folder)[0], one):
            for key in ("score", "n_tokens", "truncated", "blind_rank"):
                assert row["doc"][key] == pytest.approx(of_run[row["doc"]["id"]][key], nan_ok=True), (one.task, key)
        for metric, (value, error) in one.figures["none"].items():
            if metric == "blind_auroc" and one.about["attack"] != "strongest":
                continue  # inside a group it stands once
            row = saved.result["results"][one.task]
            assert value == pytest.approx(row[f"{metric},none"], nan_ok=True)
            stderr = row[f"{metric}_stderr,none"]
            assert error == pytest.approx(math.nan if stderr == "N/A" else stderr, nan_ok=True)

    run = read_run(write(tmp_path, parts_below(saved.folder)[0], found).parent)
    assert run.model == "org/model"
    assert set(run.tasks) == {one.task for one in found} - {"mia_strongest_files"}
    combined = run.tasks["mia_combined_files"]
    assert combined.measured["auroc"] == pytest.approx(Estimate(*found[-2].figures["none"]["auroc"]))
    assert run.published["files"].auroc == pytest.approx(Estimate(*found[-1].figures["none"]["auroc"]))


def test_texts_that_are_cut_are_counted_as_in_the_run(run, scoring, tiny, tmp_path):
    lm = scoring.load(tiny("gpt2"), max_length=20)
    reference = {"pretrained": str(tiny("gpt2", seed=1)), "dtype": "float32", "max_length": 12}
    options = {"save_stats": str(tmp_path), "reference": reference}
    configs = run("mia_loss_files,mia_ref_files", options, model=lm)["configs"]

    found, _ = attack_stats(parts_below(tmp_path)[0], parse_options({}), ["loss", "ref"])

    of_run = [configs[one.task]["metadata"]["midistill"]["counts"] for one in found]
    assert [one.about["counts"] for one in found] == of_run
    assert of_run[1]["common_part"] == of_run[0]["truncated"] == 2 * N


@pytest.mark.parametrize("length", [8, 256])
def test_the_blind_baseline_is_the_runs_where_texts_are_cut_or_have_no_score(
    length, run, scoring, tiny, people, tmp_path
):
    lm = scoring.load(tiny("gpt2"), max_length=length)
    members = write_rows(tmp_path / "members.jsonl", [{"text": text} for text in (*people[0], "a")])
    options = {"members": str(members), "save_stats": str(tmp_path / "stats")}
    result = run("mia_loss_files", options, model=lm)

    parts = parts_below(tmp_path / "stats")[0]
    (one,), _ = attack_stats(parts, parse_options({}), ["loss"])

    assert one.about["unscored_reasons"] == {"its only token is the first, which is never scored": 1}
    assert one.figures["none"]["blind_auroc"][0] == result["results"]["mia_loss_files"]["blind_auroc,none"] > 0
    rows = {row["doc"]["id"]: row["doc"] for row in result["samples"]["mia_loss_files"]}
    for sample in samples(parts, one):
        assert sample["doc"]["text"] == rows[sample["doc"]["id"]]["text"]
        assert sample["doc"].get("blind_rank") == rows[sample["doc"]["id"]].get("blind_rank")


def test_the_command_sweeps_options_and_writes_what_reports_read(saved, tmp_path, capsys):
    command = ["attack", str(saved.folder), "--attack", "mink,zlib", "--k", "0.1:0.3:0.1", "--output", str(tmp_path)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for option in ("crossfit", "k=0.1", "k=0.2", "k=0.3"):
        assert f"| mink   | {option}" in printed
    run = read_run(tmp_path)
    assert run.tasks["mia_mink_files"].metadata["learnt"] is True
    assert run.tasks["mia_mink_files"].metadata["options"]["k"] == [0.1, 0.2, 0.3]
    assert main(["attack", str(saved.folder), "--attack", "minkk"]) == 2
    assert "there is no attack 'minkk' (did you mean 'mink'?)" in capsys.readouterr().err


def test_what_the_file_does_not_hold_is_said(run: Callable[..., Any], tmp_path):
    folder = tmp_path / "stats"
    run("mia_loss_files,mia_mink_files", {"save_stats": str(folder), "log_text": False})
    table = load_stats(folder)
    assert table["text"].isna().all()
    found, lacking = attack_stats(parts_below(folder)[0], parse_options({}))
    assert [one.about["attack"] for one in found] == [
        "loss",
        "mink",
        "minkpp",
        "surp",
        "camia",
        "combined",
        "strongest",
    ]
    assert lacking["zlib"] == "the texts were left out of the file (log_text false)"
    assert lacking["recall"] == "there is no view after_shots: save the statistics of a run with this attack"
    assert lacking["dcpdd"] == "the file has no frequency: save the statistics of a run with this attack"
    assert math.isnan(found[0].figures["none"]["blind_auroc"][0])


def test_another_model_s_statistics_never_mix_with_the_last_ones(run: Callable[..., Any], tmp_path, scoring, tiny):
    run("mia_loss_files,mia_lowercase_files", {"save_stats": str(tmp_path / "one")})
    run("mia_loss_files", {"save_stats": str(tmp_path / "two")}, model=scoring.load(tiny("gpt2", seed=3)))
    one, two = (load_stats(tmp_path / name) for name in ("one", "two"))
    assert set(two["view"]) == {"text"}
    assert one.attrs["midistill"]["model_identity"] != two.attrs["midistill"]["model_identity"]
    assert not np.allclose(np.concatenate(one[one["view"] == "text"]["logprob"]), np.concatenate(two["logprob"]))


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ({"pretrained": "org/base", "peft": "runs/a"}, "runs/a"),
        ({"pretrained": "org/base", "delta": "org/delta"}, "org/delta"),
        ({"path": "models/tiny.gguf"}, "models/tiny.gguf"),
        ({"engine": "davinci"}, "davinci"),
        ({"pretrained": "org/base", "revision": "main"}, "org/base"),
        ({"pretrained": "org/base", "revision": "step-3"}, "org/base@step-3"),
        ({"pretrained": "org/base", "subfolder": "student", "revision": 7}, "org/base/student@7"),
        ({"pretrained": "org/base", "gguf_file": "q4.gguf"}, "org/base/q4.gguf"),
        ({}, "model"),
    ],
)
def test_a_model_s_name_tells_it_from_others_of_its_base(args, name):
    assert MIATask.model_name(SimpleNamespace(config=SimpleNamespace(metadata=args))) == name


def test_two_revisions_of_a_model_have_a_file_each(run, files, tmp_path):
    for revision in ("main", "step-3"):
        metadata = {"mia": files | {"save_stats": str(tmp_path)}, "pretrained": "org/model", "revision": revision}
        run("mia_loss_files", metadata=metadata)
    found = {path.parent.name for path in tmp_path.rglob("files.parquet")}
    assert found == {"org__model", "org__model__step-3"}
    assert {table.attrs["midistill"]["model"] for table in load_all(tmp_path)} == {"org/model", "org/model@step-3"}


def test_that_another_model_s_statistics_are_replaced_is_said(run, tmp_path, scoring, tiny, said):
    for seed in (0, 0, 3):
        assert not said("held the statistics of another model of this name: they are replaced")
        run("mia_loss_files", {"save_stats": str(tmp_path)}, model=scoring.load(tiny("gpt2", seed=seed)))
    assert said("held the statistics of another model of this name: they are replaced")


def test_parts_of_several_ranks_are_one_table_and_all_must_be_there(saved, tmp_path):
    from midistill_tasks.stats import file as stats

    table = load_stats(saved.folder)
    rows = [
        {k: v if isinstance(v, np.ndarray) or v == v else None for k, v in row.items()}
        for row in table.to_dict("records")
    ]
    about = table.attrs["midistill"] | {"ranks": 2}
    stats.write(tmp_path / "files-1-of-2.parquet", rows[::2], about)
    with pytest.raises(InputError, match="of 2 ranks' parts 1 are there"):
        load_all(tmp_path)
    stats.write(tmp_path / "files-2-of-2.parquet", rows[1::2], about)
    assert len(load_stats(tmp_path)) == len(table)


def test_a_file_of_another_kind_and_an_empty_folder_are_refused(tmp_path, saved):
    with pytest.raises(InputError, match="holds no statistics: run lm_eval with"):
        load_stats(tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"x\.parquet is no file of statistics that midistill wrote"):
        load_stats(tmp_path)
    (tmp_path / "x.parquet").unlink()
    (original,) = saved.folder.rglob("*.parquet")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "files.parquet").write_bytes(original.read_bytes())
    with pytest.raises(InputError, match="holds the statistics of 2 models and splits"):
        load_stats(tmp_path)


def test_a_notebook_gets_the_same_table_of_any_texts(people, lm, scoring):
    texts = people[0][:3]
    table = score_texts(lm.model, lm.tokenizer, texts, ["text", "lower", "after_shots"], shots=people[1][:2])
    assert table["view"].tolist() == ["text"] * 3 + ["lower"] * 3 + ["after_shots"] * 3
    expected = scoring.ask(lm, [ViewRequest(texts[1], view) for view in (TEXT, LOWER)])
    for view, one in zip(("text", "lower"), expected, strict=True):
        np.testing.assert_allclose(table[table["view"] == view].iloc[1]["logprob"], one.logprob, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="no view 'lowr' \\(did you mean 'lower'\\?\\)"):
        score_texts(lm.model, lm.tokenizer, texts, ["lowr"])
    with pytest.raises(InputError, match="the view 'reference' needs a reference model"):
        score_texts(lm.model, lm.tokenizer, texts, ["reference"])
    with pytest.raises(InputError, match="the view 'after_shots' needs texts in front"):
        score_texts(lm.model, lm.tokenizer, texts, ["after_shots"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("3", 3),
        ("0.1,0.2", [0.1, 0.2]),
        ("0.1:0.3:0.1", [0.1, 0.2, 0.3]),
        ("0.1:0.5:0.25", [0.1, 0.35]),
        ("true,false", [True, False]),
    ],
)
def test_values_of_the_command_line(text, value):
    assert _values("k", text) == value


def test_words_stay_words_where_they_look_like_numbers(saved, capsys):
    assert _values("norm", "1,inf") == ["1", "inf"]
    assert main(["attack", str(saved.folder), "--attack", "gradnorm", "--norm", "1,2"]) == 0
    assert "| gradnorm | norm=1" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0.1:0.5:0", "0.5:0.1:0.1", "a:b:c", "0:inf:1"])
def test_a_range_that_is_none_says_how_it_is_written(text):
    with pytest.raises(InputError, match="a range is FIRST:LAST:STEP"):
        _values("k", text)


def test_a_folder_that_cannot_be_written_ends_the_run_with_a_sentence(run: Callable[..., Any], tmp_path):
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(InputError, match="cannot be written"):
        run("mia_loss_files", {"save_stats": str(tmp_path / "file" / "stats")})


def test_the_strongest_attack_s_chance_is_that_of_its_halves(run: Callable[..., Any], tmp_path):
    """Its TPR is the mean of those of two halves, each at a threshold of its own."""
    made = [f"{text} {number}" for number, text in enumerate(biographies(300, seed=5))]
    paths = [
        write_rows(tmp_path / f"{name}.jsonl", [{"text": " ".join(text.split()[-9:])} for text in texts])
        for name, texts in (("members", made[:40]), ("nonmembers", made[40:292]))
    ]
    options = {"members": str(paths[0]), "nonmembers": str(paths[1]), "save_stats": str(tmp_path / "stats")}
    configs = run("mia_strongest_files,mia_loss_files", options)["configs"]

    found, _ = attack_stats(parts_below(tmp_path / "stats")[0], parse_options({}), ["strongest", "loss"])

    for one, expected in zip(found, ((1 + 1) / (125 + 1), (2 + 1) / (250 + 1)), strict=True):
        assert configs[one.task]["metadata"]["midistill"]["chance"] == {"tpr_at_1pct_fpr": pytest.approx(expected)}
        assert one.about["chance"] == {"tpr_at_1pct_fpr": pytest.approx(expected)}
