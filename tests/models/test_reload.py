"""A model that comes back from the disk as another is refused; one that is rounded otherwise is not."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from made_students import ARCHITECTURES, changes
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from warm import _warm_reload  # noqa: F401 (a fixture)

from midistill_tasks.models import reload
from midistill_tasks.models.architectures import convert
from midistill_tasks.models.reload import ReloadError, check_reload, probe, sensitivity
from midistill_tasks.models.saving import save


def _busy() -> None:
    matrix = torch.rand(256, 256)
    while True:
        matrix = (matrix @ matrix).softmax(-1)


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Two other processes keep the cores busy."""
    context = multiprocessing.get_context("forkserver")
    others = [context.Process(target=_busy, daemon=True) for _ in range(2)]
    for other in others:
        other.start()
    yield
    for other in others:
        other.kill()


def saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("busy_machine")
@pytest.mark.parametrize("threads", [1, 3])
def test_under_load_and_with_other_threads_a_student_without_norms_comes_back(
    threads: int, tiny: Any, stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 1024}
    student = convert(stock.model("gpt_neox", **wide), changes(nonorm=True))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(0.7)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)  # what the fresh process is told
    folder = saved(student, tiny.tokenizer(), tmp_path)
    check_reload(student, tiny.tokenizer(), folder)


def test_what_rounding_explains_follows_the_dtype_and_the_model(stock: Any) -> None:
    model = stock.model("llama")
    size = float(probe(model).abs().max())
    assert 1e-8 < sensitivity(model) / size < 1e-5
    assert 1e-3 < sensitivity(model.bfloat16()) / size < 0.3


def test_logits_rounded_otherwise_are_the_same_model_and_others_are_not(
    tiny: Any, stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stock.model("gpt_neox")
    folder, whole = saved(model, tiny.tokenizer(), tmp_path), probe(model)
    allowed = sensitivity(model)
    for off, refused in ((5 * allowed, False), (20 * allowed, True)):
        monkeypatch.setattr(reload, "probe", lambda model, off=off: whole + off)
        monkeypatch.setattr(reload, "sensitivity", lambda model: allowed)
        if refused:
            with pytest.raises(ReloadError, match="other logits, by up to"):
                check_reload(model, tiny.tokenizer(), folder)
        else:
            check_reload(model, tiny.tokenizer(), folder)


def test_something_without_parameters_that_is_lost_is_seen_in_the_logits(tiny: Any, stock: Any, tmp_path: Path) -> None:
    model = stock.model("llama")
    for layer in model.model.layers:
        layer.mlp.act_fn = nn.GELU()  # its config says silu
    with pytest.raises(ReloadError, match="other logits, by up to"):
        save(model, tiny.tokenizer(), tmp_path)


@pytest.mark.parametrize(
    ("made", "saved_as", "said"),
    [
        ({"nonorm": True}, {}, "another parameter: .*norm"),
        ({}, {"nonorm": True}, "another parameter: .*norm"),
        ({"bottleneck": 3}, {}, "another parameter: .*(was|is) missing"),
        ({"temperature": 2.0}, {"temperature": 3.0}, r"another config: midistill was .*2\.0.* and is .*3\.0"),
    ],
)
def test_a_student_that_is_changed_on_the_disk_is_refused(
    made: dict[str, Any], saved_as: dict[str, Any], said: str, tiny: Any, stock: Any, tmp_path: Path
) -> None:
    ours, other = (
        convert(stock.model("llama"), changes(**keys)) if keys else stock.model("llama") for keys in (made, saved_as)
    )
    folder = saved(other, tiny.tokenizer(), tmp_path)
    with pytest.raises(ReloadError, match=said):
        check_reload(ours, tiny.tokenizer(), folder)


def test_a_tied_head_that_comes_back_untied_is_refused_though_its_values_are_the_same(
    tiny: Any, stock: Any, tmp_path: Path
) -> None:
    model = stock.model("llama", tie_word_embeddings=True)
    folder = saved(model, tiny.tokenizer(), tmp_path)
    check_reload(model, tiny.tokenizer(), folder)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    with pytest.raises(ReloadError, match=r"another tie: .*embed_tokens\.weight"):
        check_reload(model, tiny.tokenizer(), folder)


def test_one_bit_of_one_weight_is_seen(tiny: Any, stock: Any, tmp_path: Path) -> None:
    model = stock.model("gpt2")
    folder = saved(model, tiny.tokenizer(), tmp_path)
    with torch.no_grad():
        weight = model.transformer.wpe.weight  # of a position that the probe never reads
        weight[-1, 0] = torch.nextafter(weight[-1, 0], torch.tensor(torch.inf))
    with pytest.raises(ReloadError, match=r"another parameter: transformer\.wpe\.weight"):
        check_reload(model, tiny.tokenizer(), folder)


def test_another_tokenizer_is_refused(tiny: Any, stock: Any, tmp_path: Path) -> None:
    model, tokenizer = stock.model("gpt2"), tiny.tokenizer()
    folder = saved(model, tokenizer, tmp_path)
    tokenizer(["w1 w2 w3"], truncation=True, max_length=2)  # which a fast one remembers, and a file need not
    check_reload(model, tokenizer, folder)
    tokenizer.add_tokens(["a word more"])
    with pytest.raises(ReloadError, match="another tokenizer: vocabulary"):
        check_reload(model, tokenizer, folder)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_architecture_comes_back_in_each_dtype(
    model_type: str, dtype: torch.dtype, tiny: Any, stock: Any, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_config(stock.model(model_type).config, dtype=dtype)
    # Qwen's and Gemma's folders give a tokenizer of their own class, whatever was saved there.
    tokenizer = AutoTokenizer.from_pretrained(saved(model, tiny.tokenizer(), tmp_path / "before"))
    save(model, tokenizer, tmp_path / "student")
