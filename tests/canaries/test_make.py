"""Canaries: fair coins that know nothing, the same ones again, and texts that are what their kind says."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest

from midistill_tasks.canaries.make import Wanted, make, toss
from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.splits.canaries import read_canaries

FILES = ("inserted.jsonl", "held_out.jsonl")
SENTENCE = (
    "the quick brown fox number {} jumps over a lazy dog and then over {} more of them before it sleeps at noon ."
)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A user's texts."""
    path = tmp_path_factory.mktemp("own") / "train.jsonl"
    texts = [SENTENCE.format(n, n * n) for n in range(300)] + ["Over a", "at noon ."]
    path.write_text("".join(json.dumps({"body": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_coins_are_fair_and_independent():
    coins = np.array([toss(64, seed) for seed in range(400)])
    n = coins.size
    assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(n)
    assert abs((coins[:, 1:] == coins[:, :-1]).mean() - 0.5) < 4 * 0.5 / np.sqrt(n)  # of the one before
    assert abs((coins[1:] == coins[:-1]).mean() - 0.5) < 4 * 0.5 / np.sqrt(n)  # of the seed before
    assert np.abs(coins.mean(0) - 0.5).max() < 4.5 * 0.5 / np.sqrt(400)
    assert coins.sum(1).std() == pytest.approx(4, rel=0.15)  # binomial, not a half of each


def test_the_seed_makes_the_same_files_and_another_other_ones(planted, tmp_path):
    again = make(Wanted(n=120, repeats=(1, 3), seed=7), tmp_path / "again")
    other = make(Wanted(n=120, repeats=(1, 3)), tmp_path / "other")
    for name in FILES:
        written = (planted / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == written
        assert again.files[name] == hashlib.sha256(written).hexdigest() != other.files[name]
    assert again == read_canaries(planted).plan
    assert other.seed != make(Wanted(n=120), tmp_path / "third").seed


def test_what_is_written(planted, rows):
    inserted, held_out = (rows(planted / name) for name in FILES)
    often = {row["id"]: sum(other == row for other in inserted) for row in inserted}
    assert all(often[row["id"]] == row["group"] for row in inserted)
    assert len({row["id"] for row in held_out}) == len(held_out)
    assert len({row["text"] for row in (*inserted, *held_out)}) == 120 == len(often) + len(held_out)
    groups = read_canaries(planted).plan.groups
    assert [sum(sides.values()) for sides in groups.values()] == [60, 60]
    assert groups["3"]["inserted"] == sum(count == 3 for count in often.values())
    assert groups["3"]["held_out"] == sum(row["group"] == 3 for row in held_out)
    places = [place for place, row in enumerate(inserted) if row["id"] == next(id for id in often if often[id] == 3)]
    assert places[2] - places[0] > 2, "repeats do not follow each other"


def test_groups_do_not_depend_on_coins(tmp_path):
    gaps = []
    for seed in range(40):
        groups = make(Wanted(n=200, kind="random", repeats=(1, 4), seed=seed), tmp_path / str(seed)).groups
        gaps.append(groups["4"]["inserted"] - groups["4"]["held_out"])
    assert abs(np.mean(gaps)) < 4 * 10 / np.sqrt(40)


def test_like_takes_the_users_texts_apart(own, tmp_path, rows):
    make(Wanted(n=120, kind="like", like=(str(own),), column="body"), tmp_path / "out")
    texts = [row["body"] for name in FILES for row in rows(tmp_path / "out" / name)]
    theirs = [json.loads(line)["body"] for line in own.read_text().splitlines()]
    for text in texts:
        assert not any(f" {whole} " in f" {text} " for whole in theirs)
        assert set(text.split()) <= set(" ".join(theirs).split())
    lengths = [len(text.split()) for text in texts]
    assert max(lengths) > len(SENTENCE.split()) / 2


def test_rare_ends_in_tokens_that_the_users_texts_hardly_use(own, tiny, tmp_path, rows):
    from collections import Counter

    from transformers import AutoTokenizer

    model = str(tiny("gpt2"))
    plan = make(Wanted(n=120, kind="rare", like=(str(own),), column="body", tokenizer=model), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(model)
    used = Counter(
        token for text in map(json.loads, own.read_text().splitlines()) for token in tokenizer(text["body"]).input_ids
    )
    texts = {row["body"]: row["id"] for name in FILES for row in rows(tmp_path / "out" / name)}
    last = Counter(tokenizer(text).input_ids[-1] for text in texts)
    assert len(last) == plan.tokenizer.endings > 16
    assert max(used[token] for token in last) == plan.tokenizer.most_used == 0
    assert max(last.values()) <= -(-120 // len(last)) + 1, "another for each as long as there are any"
    beginnings = {text.rpartition(" ")[0] for text in texts}
    assert len(beginnings) > 110
    assert make(Wanted(n=120, kind="rare", like=(str(own),), column="body", tokenizer=model, seed=plan.seed),
                tmp_path / "again").files == plan.files  # fmt: skip


def test_rare_leaves_out_tokens_that_no_text_is_read_as(tmp_path):
    """`zz` is in the vocabulary, but no merge makes it; `b` right behind `a` is read as `ab`."""
    from random import Random

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from midistill_tasks.canaries.rare import Rare

    model = models.BPE({"?": 0, "a": 1, "b": 2, "ab": 3, "z": 4, "zz": 5}, [("a", "b")], unk_token="?")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(tmp_path)
    rare = Rare(str(tmp_path), ["a a a", "ab ab"], (["a"] * 20), Random(0))
    stream = iter(rare)
    texts = [next(stream) for _ in range(4)]
    assert set(texts[:2]) == {"a b", "az"}, "those that are never used first"
    assert texts[2:] == ["aab", "aa"]
    assert rare.about().endings == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "rarre"}, "there is no 'rarre' (did you mean 'rare'?)"),
        ({"n": 50}, "give 110 canaries or more"),
        ({"repeats": (1, 1)}, "different whole numbers from 1 on, such as 1,4,16"),
        ({"repeats": (0,)}, "different whole numbers from 1 on, such as 1,4,16"),
        ({"column": "id"}, "name the text's otherwise"),
        ({"kind": "like"}, "--kind like needs --like: add --like train.jsonl"),
        ({"kind": "rare", "like": ("x.jsonl",)}, "--kind rare needs --tokenizer: add --tokenizer MODEL"),
        ({"like": ("x.jsonl",)}, "--like is not used by --kind bios; leave it out, or take rare or like"),
        ({"kind": "like", "like": ("absent.jsonl",)}, "there is no file 'absent.jsonl'"),
    ],
)
def test_what_cannot_be_made_is_said_before_anything_is_written(changes, said, tmp_path):
    with pytest.raises(InputError, match=re.escape(said)):
        make(Wanted(**changes), tmp_path / "out")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["too short", "this too", ""], "no text of four words or more"),
        (["a b c d e f", "a b", "b c", "c d", "d e", "e f"], "so short that whole ones stand in whatever is made"),
        (["a b c d"], "different canaries of 120 can be made of these texts; give more texts or less --n"),
    ],
)
def test_texts_of_which_nothing_can_be_made_are_refused(texts, said, tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(said)):
        make(Wanted(n=120, kind="like", like=(str(path),)), tmp_path / "out")


def test_canaries_stand_in_no_other_one_and_in_no_text_of_the_user(tmp_path, rows):
    """Else, mixed in as it should be, the training data would hold held-out canaries."""
    path = tmp_path / "own.txt"
    own = [" ".join(f"{side}{n}" for n in range(8)) for side in "abc"]
    path.write_text("\n".join(own), encoding="utf-8")
    make(Wanted(n=1000, kind="like", like=(str(path),), seed=3), tmp_path / "out")
    texts = [row["text"] for name in FILES for row in rows(tmp_path / "out" / name)]
    assert len(set(texts)) == 1000
    assert not [text for text in texts if any(text != other and text in other for other in (*texts, *own))]


def test_a_folder_that_is_there_is_left_alone(planted, capsys):
    before = {path.name: path.read_bytes() for path in planted.iterdir()}
    assert main(["canaries", "make", "--output", str(planted)]) == 2
    assert "is there, and a model may be trained on it; give another folder" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in planted.iterdir()} == before


def test_the_command_says_what_to_do_next(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["canaries", "make", "--n", "150", "--repeats", "1,2", "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"repeats +2: \d+ canaries inserted, \d+ held out", said)
    assert "of repeats 1, 2 there are too few for an epsilon of their own: give 110 for each" in said
    assert f"midistill canaries verify {out} MIXED_FILE" in said
    with pytest.raises(SystemExit):
        main(["canaries", "make", "--repeats", "1;2", "--output", str(out)])
    assert "'1;2' is no list of whole numbers such as 1,4,16" in capsys.readouterr().err
