from __future__ import annotations

import json
from pathlib import Path

import pytest

from midistill_tasks.distill.data import Texts, load_texts
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.distill.sampling import written
from midistill_tasks.distill.sampling.written import written_texts
from midistill_tasks.errors import InputError
from midistill_tasks.models import saving
from midistill_tasks.recipes.schema import Data

HASHES = {"teacher": "t", "tokenizer": "k"}


@pytest.fixture
def write(tmp_path, tiny):
    texts = Texts(tiny.texts(40), tiny.texts(10, seed=1))

    def write(teacher=None, texts=texts, tokenizer=None, **own):
        (tmp_path / "members.jsonl").write_text(json.dumps({"text": "w1 w2"}))
        generate = {"folder": str(tmp_path / "generated"), **own}
        data = Data(members=str(tmp_path / "members.jsonl"), generate_from=generate, max_length=12)
        return written_texts(data, texts, teacher or tiny.model().eval(), tokenizer or tiny.tokenizer(), HASHES)

    return write


def test_as_many_texts_as_members_are_written_once_and_found_again(write, tmp_path, monkeypatch):
    texts, counts = write()
    assert counts["written"] == 40  # in two batches
    assert len(texts) == 40 - counts["written_empty"] - counts["written_duplicates"]
    assert len(set(texts)) == len(texts) > 20
    assert max(len(text.split()) for text in texts) <= 12
    _, second = sorted((tmp_path / "generated").glob("*/texts-*.json"))
    second.unlink()  # as a kill would leave it
    assert write()[0] == texts
    monkeypatch.setattr(written, "sample", lambda *_, **__: pytest.fail("it was written again"))
    assert write()[0] == texts


def test_seed_and_temperature_make_other_texts_beside_the_first(write, tmp_path):
    assert write()[0] != write(seed=1)[0]
    assert write()[0] != write(temperature=0.5)[0]
    assert len(list((tmp_path / "generated").iterdir())) == 3


def test_what_the_teacher_repeats_of_the_split_is_counted(write, monkeypatch):
    """A teacher that writes members: a whole one, the long run of another, nothing, and a non-member."""
    member = " ".join(f"w{number}" for number in range(20))
    texts = Texts(["w1 w2", member], ["w7 w7"])
    given = ["w1 w2", f"w50 {member[:-4]}", "", "w7 w7", "w9", "w9"]
    monkeypatch.setattr(written, "_batch", lambda *_: given)
    kept, counts = write(texts=texts, n=6)
    assert kept == ["w1 w2", given[1], "w7 w7", "w9"]
    assert counts == {
        "written": 6, "written_empty": 1, "written_duplicates": 1, "written_shared": 2, "written_copying": 1,
    }  # fmt: skip


def test_what_is_copied_from_a_member_that_n_did_not_draw_is_counted_too(write, monkeypatch, tmp_path):
    """The teacher has learnt all of them."""
    members = [" ".join(f"w{number + start}" for number in range(20)) for start in (0, 20, 40)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in members))
    texts = load_texts(Data(members=str(tmp_path / "all.jsonl"), n=2))
    (undrawn,) = (text for text in members if text not in texts.members)
    monkeypatch.setattr(written, "_batch", lambda *_: [f"w50 {undrawn.rsplit(maxsplit=1)[0]}"])
    counts = write(texts=texts, n=1)[1]
    assert (counts["written_shared"], counts["written_copying"]) == (0, 1)


def test_beginnings_are_other_texts_cut_to_their_first_tokens(write, tmp_path, tiny):
    others = ["w10 w11 w12 w13", "w20 w21", tiny.texts(40)[0]]
    (tmp_path / "others.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in others))
    texts, counts = write(beginnings=str(tmp_path / "others.jsonl"), tokens=3)
    assert counts["beginnings_shared"] == 1
    assert {text.startswith("w10 w11 w12") for text in texts[::2]} <= {True, False}
    assert all(text.startswith(("w10 w11 w12", "w20 w21")) for text in texts)


def test_a_tokenizer_without_a_first_token_asks_for_beginnings(write, tiny):
    tokenizer = tiny.tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no beginning-of-text token to begin with: give 'beginnings'"):
        write(tokenizer=tokenizer)


def test_a_student_of_what_the_teacher_writes_sees_no_member(recipe_of, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "check_reload", lambda model, tokenizer, folder: None)
    recipe = recipe_of(data__generate_from={"folder": str(tmp_path / "generated"), "n": 20})
    record = run_recipe(recipe)
    assert record.counts["written"] == 20
    assert record.counts["trained_on"] + record.counts["too_short"] == 20 - sum(
        record.counts[f"written_{why}"] for why in ("empty", "duplicates")
    )
    card = (Path(recipe.output) / "README.md").read_text()
    assert "trained on the members themselves: no (what its teacher wrote: `generate_from`)" in card


def test_beginnings_that_leave_nothing_to_write_are_refused_before_anything_is_written(write, tmp_path):
    (tmp_path / "others.jsonl").write_text(json.dumps({"text": " ".join(f"w{number}" for number in range(20))}))
    refused = r"generate_from\.tokens: a beginning of 12 tokens .* set it below 12"
    with pytest.raises(InputError, match=refused):
        write(beginnings=str(tmp_path / "others.jsonl"), tokens=12)
    assert not (tmp_path / "generated").exists()
    texts, _ = write(beginnings=str(tmp_path / "others.jsonl"), tokens=11)
    assert all(text.startswith("w0 w1 w2") for text in texts)
