from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import (
    check_same_tokenizer,
    check_vocabulary,
    from_pretrained,
    load_teacher,
    load_tokenizer,
)


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


def test_a_model_takes_the_harness_s_model_args(tiny, tmp_path):
    folder = tmp_path / "models" / "inner"
    tiny.model(seed=1).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    name = f"{folder.parent},subfolder=inner,dtype=bfloat16"
    assert load_teacher(name).dtype == torch.bfloat16
    assert len(load_tokenizer(name, "teacher.model")) == 62
    with pytest.raises(InputError, match=r"^student.checkpoint: 'dtype=bfloat16': its weights are trained, in float32"):
        from_pretrained(AutoModelForCausalLM, name, "student.checkpoint", dtype=torch.float32)


def test_model_args_reach_transformers_and_mistakes_are_named():
    asked = []

    class Auto:
        @staticmethod
        def from_pretrained(name, **kwargs):
            asked.append((name, kwargs))

    from_pretrained(Auto, "some/model,revision=v2,gguf_file=q4.gguf", "teacher.model", revision=None)
    assert asked == [("some/model", {"revision": "v2", "gguf_file": "q4.gguf"})]
    for name, said in (
        ("some/model,revison=v2", r"'revison=v2' is none of its arguments \(did you mean 'revision'\?\)"),
        ("some/model,v2", "'v2' is none of its arguments"),
        ("some/model,dtype=int8", "give float32, bfloat16 or float16"),
        ("some/model,revision=v1", "two revisions, v1 and v2: give one"),
    ):
        with pytest.raises(InputError, match=rf"^teacher\.model: .*{said}"):
            from_pretrained(Auto, name, "teacher.model", revision="v2")


def test_a_folder_whose_name_has_a_comma_is_that_folder(tiny, tmp_path):
    tiny.model().save_pretrained(tmp_path / "a,b")
    assert load_teacher(str(tmp_path / "a,b")).dtype == torch.float32
