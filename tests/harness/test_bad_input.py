"""What is wrong with texts, files and models is said in one sentence; what can be skipped is skipped and counted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midistill_tasks.errors import InputError

from .conftest import N, write_rows

Run = Callable[..., dict[str, Any]]
TASK = "mia_loss_files"


@pytest.fixture
def with_members(people: tuple[list[str], list[str]], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Options for the members and these texts more."""

    def with_members(*more: str) -> dict[str, Any]:
        rows = [{"text": text} for text in (*people[0], *more)]
        return {"members": str(write_rows(tmp_path / "more.jsonl", rows))}

    return with_members


def record(result: dict[str, Any], task: str = TASK) -> dict[str, Any]:
    made: dict[str, Any] = result["configs"][task]["metadata"]["midistill"]
    return made


def scores(result: dict[str, Any], task: str = TASK) -> dict[str, float]:
    return {sample["doc"]["text"]: sample["doc"]["score"] for sample in result["samples"][task]}


# ---------------------------------------------------------------------- texts: skipped and counted


def test_empty_texts_are_left_out_and_counted(run: Run, with_members):
    result = run(TASK, with_members("", "   \n\t"))
    assert record(result)["counts"]["empty"] == 2
    assert all(text.strip() for text in scores(result))


def test_duplicates_and_texts_on_both_sides_are_left_out_and_counted(run: Run, with_members, people):
    members, nonmembers = people
    result = run(TASK, with_members(members[0], members[1], nonmembers[-1]))
    counts = record(result)["counts"]
    assert (counts["duplicates"], counts["both_sides"]) == (2, 2)  # rows
    assert nonmembers[-1] not in scores(result)
    assert len(scores(result)) == counts["members"] + counts["nonmembers"] == len(members) + len(nonmembers) - 2 - 1


def test_a_text_of_one_token_is_not_scored_and_counted(run: Run, said, tmp_path, people):
    rows = [{"text": text} for text in ("x", *people[0][1:])]
    result = run(TASK, {"members": str(write_rows(tmp_path / "m.jsonl", rows))})
    given = scores(result)
    assert math.isnan(given["x"])
    assert sum(map(math.isnan, given.values())) == 1
    assert record(result)["counts"]["unscored"] == 1
    assert record(result)["unscored_reasons"] == {"its only token is the first, which is never scored": 1}
    assert said(f"[{TASK}] 1 of {2 * N} texts are not scored: its only token is the first") != []
    assert not math.isnan(result["results"][TASK]["auroc,none"])


def test_a_text_longer_than_the_model_keeps_its_first_tokens_and_is_counted(run: Run, said, tmp_path, people):
    long = "one two three four five six seven eight nine ten " * 60
    rows = [{"text": text} for text in (long, long + "and more", *people[0][2:])]
    result = run(TASK, {"members": str(write_rows(tmp_path / "m.jsonl", rows))})
    assert record(result)["counts"]["truncated"] == 2
    assert (
        said(f"[files] 2 of {2 * N} texts are longer than the model reads at once (max_length) and are judged by") != []
    )
    given = scores(result)
    assert given[long] == given[long + "and more"]
    assert (
        max(sample["doc"]["n_tokens"] for sample in result["samples"][TASK]) == 255
    )  # of 256, the first is not scored


def test_shots_that_do_not_fit_leave_only_recall_without_scores(run: Run, tmp_path, people):
    long = " ".join(people[0]) + " " + " ".join(people[1])
    rows = [{"text": text} for text in (long, long + ".", *people[1])]
    result = run("mia_loss_files,mia_recall_files", {"nonmembers": str(write_rows(tmp_path / "n.jsonl", rows))})
    assert reports_nothing(result, "the first shot alone has", ("mia_recall_files",))
    assert not any(map(math.isnan, scores(result).values()))
    assert isinstance(result["results"][TASK]["auroc,none"], float)


# ---------------------------------------------------------------------- splits and files: refused before any forward


@pytest.mark.usefixtures("no_forward")
class TestRefused:
    def test_a_split_with_one_class_only(self, run: Run, tmp_path):
        empty = str(write_rows(tmp_path / "empty.jsonl", [{"text": " "}]))
        for side, called in (("members", "members"), ("nonmembers", "non-members")):
            with pytest.raises(InputError, match=f"files has no {called} .*; give texts of both kinds"):
                run(TASK, {side: empty})

    def test_documents_of_one_class_only(self, run: Run):
        for flags in ({"limit": 1}, {"samples": {TASK: [0, 2, 4]}}):
            with pytest.raises(InputError, match=f"{TASK}: the . documents to score are of one class; raise --limit"):
                run(TASK, **flags)

    def test_fewer_nonmembers_than_shots(self, run: Run):
        with pytest.raises(
            InputError, match=r"26 non-members, but 25 are taken out as shots and 2 must remain; give more"
        ):
            run(TASK, {"shots": 25})

    def test_fewer_texts_than_asked_for(self, run: Run):
        with pytest.raises(InputError, match=r"option 'n' is 100, .* use at most 24"):
            run(TASK, {"n": 100})

    def test_a_column_that_is_missing_or_misspelt(self, run: Run, files):
        with pytest.raises(InputError) as error:
            run(TASK, {"column": "texts"})
        assert f"{files['members']} has no column 'texts' (did you mean 'text'?); its columns: text" in str(error.value)

    def test_a_value_that_is_no_text(self, run: Run, tmp_path):
        rows = write_rows(tmp_path / "m.jsonl", [{"text": "a b c"}, {"text": 17}])
        with pytest.raises(
            InputError, match=r"m\.jsonl, row 2: 'text' is 17, not a string; correct or remove that row"
        ):
            run(TASK, {"members": str(rows)})

    def test_a_broken_json_line(self, run: Run, tmp_path):
        (tmp_path / "m.jsonl").write_text('{"text": "fine"}\n{"text": "broken\n')
        with pytest.raises(InputError, match=r"m\.jsonl, line 2: broken JSON .*; correct or remove that line"):
            run(TASK, {"members": str(tmp_path / "m.jsonl")})

    def test_bytes_that_are_not_utf8(self, run: Run, tmp_path):
        (tmp_path / "m.txt").write_bytes(b"fine\nfine\nna\xefve\n")
        with pytest.raises(
            InputError, match=r"m\.txt, line 3: byte 12 \(0xef\) is not UTF-8; convert the file with: iconv"
        ):
            run(TASK, {"members": str(tmp_path / "m.txt")})

    def test_a_file_that_is_not_there_or_not_named(self, run: Run, files, tmp_path):
        with pytest.raises(InputError, match=r"there is no file '.*nowhere\.jsonl'; check the path"):
            run(TASK, {"members": str(tmp_path / "nowhere.jsonl")})
        with pytest.raises(InputError, match=r"needs a file of nonmembers: add --metadata '\{\"mia\""):
            run(TASK, metadata={"mia": {"members": files["members"]}})

    def test_a_local_copy_that_is_not_there_or_of_no_split(self, run: Run, tmp_path):
        with pytest.raises(InputError, match=r"dataset_path: there is no file or folder '.*nowhere'"):
            run("mia_loss_wikimia_64", {"dataset_path": str(tmp_path / "nowhere")})
        with pytest.raises(
            InputError, match=r"'wikitex' is no split \(did you mean 'wikitext'\?\); splits: wikitext, "
        ):
            run("mia_loss_wikimia_64", {"dataset_path": {"wikitex": "x"}})

    def test_options_that_are_none(self, run: Run):
        with pytest.raises(InputError, match=r"'mia' has no option 'shot' \(did you mean 'shots'\?\)"):
            run(TASK, {"shot": 3})

    def test_no_network_and_no_local_copy(self, run: Run):
        with pytest.raises(InputError, match=r"could not be loaded .* give a local copy with --metadata '\{\"mia\""):
            run("mia_loss_wikimia_64")


# ---------------------------------------------------------------------- models


@pytest.fixture
def other_tasks(tmp_path: Path) -> list[dict[str, Any]]:
    """A task of the harness's own kind beside ours."""
    rows = [{"question": f"{i} and {i} is", "answers": [str(2 * i), str(3 * i)], "right": 0} for i in range(1, 7)]
    return [
        {
            "task": "sums",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(write_rows(tmp_path / "sums.jsonl", rows))}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "question",
            "doc_to_choice": "answers",
            "doc_to_target": "right",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    ]


def reports_nothing(result: dict[str, Any], reason: str, tasks: tuple[str, ...] = (TASK, "mia_recall_files")) -> bool:
    for task in tasks:
        assert set(result["results"][task]) == {"name", "alias", "sample_len"}
        assert [text for text in record(result, task)["unscored_reasons"] if reason in text]
        assert all(math.isnan(sample["doc"]["score"]) for sample in result["samples"][task])
    return True


def test_a_backend_without_token_statistics_finishes_the_other_tasks(run: Run, said, other_tasks):
    result = run([TASK, *other_tasks, "mia_recall_files"], model="dummy")
    assert 0 <= result["results"]["sums"]["acc,none"] <= 1
    assert reports_nothing(result, "the backend DummyLM gives no distribution over the vocabulary")
    assert len(said("no figures of loss, recall: the backend DummyLM")) == 1
    assert "NaN" not in json.dumps(result["results"])


def test_a_backend_that_nobody_knows_says_so(run: Run, said):
    from lm_eval.models.dummy import DummyLM

    assert reports_nothing(run([TASK], model=DummyLM()), "DummyLM", (TASK,))
    assert len(said("`midistill backends` lists those that do")) == 1


def test_an_encoder_decoder_model_finishes_the_other_tasks(run: Run, other_tasks, tiny, scoring):
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 500}
    t5 = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0))
    model = scoring.load(t5, tokenizer=str(tiny("gpt2")), backend="seq2seq")
    result = run([TASK, *other_tasks, "mia_recall_files"], model=model)
    assert 0 <= result["results"]["sums"]["acc,none"] <= 1
    assert reports_nothing(result, "is an encoder-decoder model, and these attacks need a causal one")


def test_a_model_without_a_tokenizer_says_how_to_name_one(run: Run, tiny, scoring):
    model = scoring.load(tiny("gpt2"))
    model.tokenizer = None
    assert reports_nothing(run([TASK], model=model), "no tokenizer; name one with --model_args tokenizer=", (TASK,))


@pytest.fixture
def broken_at(tiny: Any, scoring: Any) -> Callable[..., Any]:
    """A model whose logits are no numbers for texts that hold the token of "!"."""

    def broken_at(value: float) -> Any:
        model = scoring.load(tiny("gpt2"))
        (token,) = model.tok_encode("!")
        weights = model.model.get_input_embeddings().weight
        model.model.get_output_embeddings().weight = type(weights)(weights.detach().clone())
        weights.data[token] = value
        return model

    return broken_at


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_texts_whose_logits_are_no_numbers_are_not_scored_and_counted(run: Run, broken_at, with_members, value, people):
    options = with_members(*(f"{text} ! And so on." for text in people[0][:5]))
    result = run(TASK, options | {"shots": 2}, model=broken_at(value))
    bad = [text for text in scores(result) if "!" in text]
    assert bad
    assert {text for text, score in scores(result).items() if math.isnan(score)} == set(bad)
    assert record(result)["counts"]["unscored"] == len(bad)
    (reason,) = record(result)["unscored_reasons"]
    assert "NaN or +inf logits: load it in float32" in reason
    assert not math.isnan(result["results"][TASK]["auroc,none"])


def test_a_model_of_which_no_text_is_scored_gives_nan_and_no_error(run: Run, tiny, scoring):
    model = scoring.load(tiny("gpt2"))
    model.model.get_input_embeddings().weight.data[:] = math.nan
    result = run("mia_files", model=model)
    for task in ("mia_loss_files", "mia_minkpp_files", "mia_recall_files"):
        assert math.isnan(result["results"][task]["auroc,none"])
        assert result["results"][task]["auroc_stderr,none"] == "N/A"
        assert record(result, task)["counts"]["unscored"] == 2 * N
