"""Shards joined are the whole, to the bit; what does not belong together is refused; memory holds a few rows."""

from __future__ import annotations

import json
import math
import re
import shutil

import pytest

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import parse_options
from midistill_tasks.offline import attacks
from midistill_tasks.offline.attacks import attack_stats
from midistill_tasks.offline.writing import write
from midistill_tasks.stats import file as stats
from midistill_tasks.stats import texts
from midistill_tasks.stats.parts import parts_below
from midistill_tasks.stats.tables import load_stats

from .conftest import ABOUT

SWEPT = {"mia": {"mink": {"k": [0.1, 0.2, 0.3]}}}


def of(place, output):
    """Everything that is written of these statistics: figures, and samples to the letter."""
    parts = parts_below(place)[0]
    found, lacking = attack_stats(parts, parse_options(SWEPT))
    results = json.loads(write(output, parts, found).read_text())
    about = {task: each["metadata"]["midistill"] for task, each in results["configs"].items()}
    samples = {re.sub("_2.*", "", path.name): path.read_text() for path in output.rglob("samples_*.jsonl")}
    return SimpleResults(results["results"], about, samples, lacking)


class SimpleResults:
    def __init__(self, figures, about, samples, lacking):
        self.figures, self.about, self.samples, self.lacking = figures, about, samples, lacking

    def __eq__(self, other):
        return vars(self) == vars(other)


@pytest.mark.parametrize("shards", [2, 7])
def test_every_attack_on_joined_shards_is_that_on_the_whole_to_the_bit(written, tmp_path, shards):
    made = written(shards)
    whole, joined = of(made.whole, tmp_path / "whole"), of(made.shards, tmp_path / "joined")
    assert set(whole.lacking) == {"neighbor", "samia", "extraction", "petal"}
    assert len(whole.figures) == len(ATTACKS) - 4
    assert not math.isnan(whole.figures["mia_combined_files"]["auroc,none"])
    assert whole.about["mia_lowercase_files"]["counts"]["unscored"] == 10
    assert whole.samples["samples_mia_mink_files"].count("\n") == 4 * 160
    assert joined == whole


def test_files_by_view_as_they_were_written_before_give_the_same(written, tmp_path):
    made = written(2)
    (path,) = made.whole.rglob("*.parquet")
    table = load_stats(path)
    rows = [
        {k: None if isinstance(v, float) and v != v else v for k, v in row.items()} for row in table.to_dict("records")
    ]
    assert [row["view"] for row in rows[:160]] == ["text"] * 160
    stats.write(tmp_path / "old" / "files.parquet", rows, table.attrs["midistill"])
    assert not parts_below(tmp_path / "old")[0][0].by_text
    assert of(tmp_path / "old", tmp_path / "a") == of(made.whole, tmp_path / "b")


def test_a_notebook_gets_one_table_of_all_shards(written):
    made = written(3, views=("text", "lower"))
    whole, joined = load_stats(made.whole), load_stats(made.shards)
    assert list(joined.columns) == list(whole.columns)
    assert joined["id"].tolist() == whole["id"].tolist()
    assert joined["view"].tolist() == whole["view"].tolist() == ["text"] * 160 + ["lower"] * 160


def test_a_file_is_open_only_while_its_texts_are_due(written, monkeypatch):
    made = written(20, views=("text",))
    parts = parts_below(made.shards)[0]
    open_, most, rows = set(), [], texts._rows

    def counted(part, columns):
        open_.add(part.path)
        most.append(len(open_))
        yield from rows(part, columns)
        open_.discard(part.path)

    monkeypatch.setattr(texts, "_rows", counted)
    assert [text.doc["id"] for text in texts.texts(parts)] == [doc["id"] for doc, _ in made.made]
    assert len(most) == 20
    assert max(most) <= 4


def test_of_many_texts_the_blind_baseline_reads_some_documents_whole_and_says_so(
    written, tmp_path, monkeypatch, capsys
):
    made = written(2, views=("text",))
    exact = of(made.whole, tmp_path / "exact")
    assert "blind_texts" not in exact.about["mia_loss_files"]
    monkeypatch.setattr(attacks, "BLIND_TEXTS", 120)
    assert main(["attack", str(made.shards), "--attack", "loss", "--output", str(tmp_path / "some")]) == 0
    said = re.search(r"blind_auroc is of (\d+) of the 160 texts", capsys.readouterr().out)
    (path,) = (tmp_path / "some").rglob("samples_*.jsonl")
    docs = [json.loads(line)["doc"] for line in path.read_text().splitlines()]
    judged = {doc["cluster"] for doc in docs if "blind_rank" in doc}
    assert 60 < int(said[1]) < 150
    assert int(said[1]) == sum(doc["cluster"] in judged for doc in docs)


def test_missing_shards_are_named_with_the_command_that_makes_them(written):
    command = {"command": """lm_eval --tasks mia_files --metadata '{"mia": {"shard": "1/7", "save_stats": "stats"}}'"""}
    made = written(7, views=("text",), of_1=command)
    made.paths[2].unlink()
    made.paths[6].unlink()
    with pytest.raises(
        InputError, match=r"of 7 shards 2 are missing \(3/7, 7/7\): make shard 3/7 \(and the others"
    ) as one:
        parts_below(made.shards)
    assert """lm_eval --tasks mia_files --metadata '{"mia": {"shard": "3/7", "save_stats": "stats"}}'""" in str(
        one.value
    )


def test_a_text_in_two_files_is_refused(written):
    made = written(3, views=("text",))
    shutil.copy(made.paths[0], made.paths[0].with_name("copy.parquet"))
    with pytest.raises(InputError, match=r"shard 1/3 is there twice \(copy\.parquet, files-shard-1-of-3\.parquet\)"):
        parts_below(made.shards)
    made.paths[0].with_name("copy.parquet").unlink()
    (whole,) = made.whole.rglob("*.parquet")
    shutil.copy(whole, made.paths[0].parent)
    with pytest.raises(InputError, match="is there as a whole and in shards"):
        parts_below(made.shards)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data_sha256": "other"}, "they are of different texts or labels"),
        ({"model_identity": "other"}, "they are of different models of this name"),
        ({"options": {"shots": 3, "k": 0.3, "save_stats": "x"}}, "the option shots is 2 in one and 3 in the other"),
        ({"shard": "2/4"}, "a division into 3 and of one into 4 lie together"),
        ({"shard": "1/3"}, "shard 1/3 is there twice"),
        ({"ranks": 2}, "of shard 2/3 1 of 2 ranks' parts are there"),
    ],
)
def test_shards_of_different_runs_are_refused(written, changes, said):
    with pytest.raises(InputError, match=said):
        parts_below(written(3, views=("text",), of_2=changes).shards)


def test_shards_by_different_model_args_are_refused(written):
    by = [{"scored_by": {"model": "hf", "model_args": args}} for args in ({}, {"max_length": 8})]
    with pytest.raises(InputError, match="max_length of --model_args is None in one and 8 in the other"):
        parts_below(written(2, views=("text",), of_1=by[0], of_2=by[1]).shards)


@pytest.mark.parametrize(
    ("changes", "rows", "said"),
    [
        ({"model_identity": "other"}, slice(1, None, 2), "they are of different models of this name: run them all"),
        ({"data_sha256": "other"}, slice(1, None, 2), "they are of different texts or labels: run them all again"),
        ({}, slice(80, None), r"texts of files-2-of-2\.parquet, such as \w+, are in another rank's part, too"),
    ],
)
def test_ranks_of_different_runs_are_refused(written, tmp_path, changes, rows, said):
    made = written(2, views=("text",)).made
    about = {**ABOUT, "ranks": 2}
    all_rows = [stats.row_of(doc, "text", found["text"], True) for doc, found in made]
    stats.write(tmp_path / "files-1-of-2.parquet", all_rows[::2], about)
    stats.write(tmp_path / "files-2-of-2.parquet", all_rows[1::2], about)
    assert len(load_stats(tmp_path)) == 160
    stats.write(tmp_path / "files-2-of-2.parquet", all_rows[rows], about | changes)
    with pytest.raises(InputError, match=said):
        load_stats(tmp_path)


def test_other_options_of_attacks_alone_do_not_keep_shards_apart(written):
    made = written(3, views=("text",), of_2={"options": {"shots": 2, "k": 0.4, "save_stats": "elsewhere"}})
    assert len(parts_below(made.shards)[0]) == 3


def test_a_shard_without_a_view_or_with_fewer_texts_is_refused(written):
    made, other = written(3, views=("text", "lower")), written(3, views=("text",))
    shutil.copy(other.paths[1], made.paths[1])
    with pytest.raises(
        InputError, match="shard 2/3 does not belong to shard 1/3: the view lower is in one of both only"
    ):
        parts_below(made.shards)
    shutil.copy(written(3, views=("text", "lower"), of_1={"shard": "2/3"}).paths[0], made.paths[1])
    with pytest.raises(InputError, match=r"the shards hold \d+ of the 160 texts of files, \d+ of them twice"):
        parts_below(made.shards)
