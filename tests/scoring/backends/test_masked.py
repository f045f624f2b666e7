"""Neighbours of a text by a masked language model, and vectors of words."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.scoring.backends import masked
from midistill_tasks.scoring.backends.embedding import embedded
from midistill_tasks.scoring.backends.masked import neighbours
from midistill_tasks.views import Generated, UnscorableError

WORDS = [*("the", "a", "cat", "dog", "sat", "lay", "on", "under", "mat", "bed", "red", "blue"), "##s", "##ed"]
TEXT = "The cat  sat on the\nred mat, cats."


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A small BERT with random weights and these words."""
    folder = tmp_path_factory.mktemp("masked")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=True)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), initializer_range=0.5, **sizes)).save_pretrained(folder)
    return str(folder)


def test_one_word_is_another_and_all_else_stays(model):
    made = neighbours(model, TEXT, 10)
    assert len(set(made)) == 10
    for variant in made:
        assert variant != TEXT
        assert [char for char in variant if char.isspace()] == [char for char in TEXT if char.isspace()]
        changed = [(a, b) for a, b in zip(TEXT.split(), variant.split(), strict=True) if a != b]
        assert len(changed) == 1
        assert changed[0][1].strip(".,") in {*WORDS, *(word + end for word in WORDS for end in ("s", "ed"))}


def test_they_are_the_likeliest_by_the_odds_and_the_same_every_time(model):
    made = neighbours(model, TEXT, 5)
    neighbours.cache_clear()
    assert neighbours(model, TEXT, 5) == made
    assert neighbours(model, TEXT, 10)[:5] == made
    loaded = masked._load(model)
    ids = loaded.tokenizer(TEXT)["input_ids"]
    odds, tokens = masked._replacements(loaded.model, ids, [1, 2], seed=3)
    assert (odds.diff(dim=-1) <= 0).all()
    assert ids[1] not in tokens[0].tolist()


def test_a_text_without_so_many_neighbours_says_so(model):
    with pytest.raises(UnscorableError, match="too short for 100 neighbours"):
        neighbours(model, "mat", 100)


def test_a_model_that_is_no_masked_one_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"neighbor_model: '.*' cannot be loaded as a masked language model"):
        neighbours(str(tmp_path), TEXT, 2)


def test_words_have_vectors_of_length_one_by_the_mean_of_their_tokens(model):
    cat, cats = embedded(model, "cat"), embedded(model, "cats")
    assert sum(x * x for x in cat) == pytest.approx(1)
    assert cat != cats
    loaded = masked._load(model)
    states = loaded.model.bert(**loaded.tokenizer("cats", return_tensors="pt")).last_hidden_state[0].mean(0)
    assert cats == pytest.approx((states / states.norm()).tolist(), abs=1e-6)
    assert ATTACKS["petal"](
        Generated(("cats",), "cat"), Generated(("cat",), "cat"), guesses=2, embedding_model=model
    ) == pytest.approx((sum(a * b for a, b in zip(cat, cats, strict=True)) + 1) / 2)
