from __future__ import annotations

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import check_same_tokenizer, check_vocabulary, from_pretrained, load_teacher


def test_different_tokenizers_are_refused_though_they_have_one_size(tiny):
    swapped = tiny.tokenizer([tiny.words[1], tiny.words[0], *tiny.words[2:]])
    with pytest.raises(InputError, match="first at token 2: 'w0' and 'w1'"):
        check_same_tokenizer(tiny.tokenizer(), swapped, [])


def test_one_vocabulary_that_splits_texts_differently_is_refused(tiny):
    from tokenizers import pre_tokenizers

    other = tiny.tokenizer()
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("-")
    with pytest.raises(InputError, match="split 'w1 w2…' differently"):
        check_same_tokenizer(tiny.tokenizer(), other, ["w1 w2"])


def test_a_model_with_fewer_rows_than_tokens_is_refused(tiny):
    with pytest.raises(InputError, match="teacher: its vocabulary has 50 rows, but the tokenizer 62 tokens"):
        check_vocabulary(tiny.model(vocab_size=50).config, tiny.tokenizer(), "teacher")


def test_what_cannot_be_loaded_is_named_by_its_key(tmp_path):
    with pytest.raises(InputError, match=r"teacher\.model: there is no folder '.*nowhere'; relative paths start at /"):
        load_teacher(str(tmp_path / "nowhere"))


def test_a_gated_model_says_how_to_get_access():
    from unittest.mock import Mock

    from huggingface_hub.errors import GatedRepoError

    def gated(name, **kwargs):
        raise OSError("You are trying to access a gated repo.") from GatedRepoError("401", response=Mock())

    with pytest.raises(
        InputError, match=r"google/gemma is gated: accept its terms at https://huggingface\.co/google/gemma"
    ):
        from_pretrained(Mock(from_pretrained=gated, __name__="AutoModel"), "google/gemma", "teacher.model")


def test_a_folder_that_is_not_there_is_called_that_and_no_failed_connection(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("./my-teacher", "../my-teacher", "models/of/mine"):
        with pytest.raises(InputError, match=f"^teacher.model: there is no folder '{name}'; relative paths start at"):
            load_teacher(name)
    with pytest.raises(
        InputError, match=r"^teacher\.model: 'my-teacher' is no folder here .* and of the hub it is not"
    ):
        load_teacher("my-teacher")
