"""An exported student is a stock model with the student's logits; what does not fold is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from made_students import changes
from transformers import AutoModelForCausalLM

from midistill_tasks.errors import InputError
from midistill_tasks.models import saving
from midistill_tasks.models.architectures import convert
from midistill_tasks.models.export import export_plain
from midistill_tasks.models.reload import probe


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fresh process is test_saving's matter."""
    monkeypatch.setattr(saving, "check_reload", lambda model, tokenizer, folder: None)


def student_of(stock: Any, architecture: str, dtype: torch.dtype = torch.float32, **surgery: Any) -> Any:
    student = convert(stock.model(architecture).to(dtype), changes(**surgery))
    stock.shake(student)
    return student


@pytest.mark.parametrize(
    "surgery", [{"bottleneck": 3}, {"nonorm": True}, {"bottleneck": 3, "nonorm": True}, {"ffn_dropout": 0.5}]
)
def test_exported_it_is_a_stock_model_with_the_student_s_logits(
    architecture: str, surgery: dict[str, Any], stock: Any, tiny: Any, tmp_path: Path
) -> None:
    if architecture == "opt" and "nonorm" in surgery:
        pytest.skip("OPT fixes the eps of its norms: refused, see below")
    student = student_of(stock, architecture, **surgery, foldable=True)
    export_plain(student, tiny.tokenizer(), tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(plain).__module__.startswith("transformers.")
    assert plain.config.model_type == architecture
    torch.testing.assert_close(probe(plain), probe(student), rtol=1e-4, atol=1e-4)


def test_rms_norm_folds_in_bfloat16_without_any_error(stock: Any, tiny: Any, tmp_path: Path) -> None:
    student = student_of(stock, "llama", torch.bfloat16, nonorm=True, foldable=True)
    export_plain(student, tiny.tokenizer(), tmp_path)
    assert torch.equal(probe(AutoModelForCausalLM.from_pretrained(tmp_path)), probe(student))


def test_norms_of_queries_and_keys_fold_with_the_others(stock: Any, tiny: Any, tmp_path: Path) -> None:
    model = stock.model("qwen3", intermediate_size=32, num_key_value_heads=1, head_dim=8)
    student = convert(model, changes(nonorm=True, foldable=True))
    stock.shake(student)
    export_plain(student, tiny.tokenizer(), tmp_path)
    torch.testing.assert_close(
        probe(AutoModelForCausalLM.from_pretrained(tmp_path)), probe(student), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("architecture", "surgery", "message"),
    [
        ("llama", {}, "a stock architecture already"),
        ("llama", {"bottleneck": 3}, "foldable: true"),
        ("llama", {"nonorm": True}, "foldable: true"),
        ("llama", {"bottleneck": 3, "foldable": True, "temperature": 2.0}, "red list or a temperature"),
        ("llama", {"bottleneck": 3, "foldable": True, "red_list": (1,)}, "red list or a temperature"),
        ("opt", {"nonorm": True, "foldable": True}, "fixes the eps"),
        # Cohere's norm subtracts the mean but is no nn.LayerNorm: γ⊙x is not what a huge eps makes of it.
        ("cohere", {"nonorm": True, "foldable": True}, "its logits differ"),
    ],
)
def test_what_does_not_fold_is_refused_and_nothing_written(
    architecture: str, surgery: dict[str, Any], message: str, stock: Any, tiny: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        export_plain(student_of(stock, architecture, **surgery), tiny.tokenizer(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folded_norms_are_refused_in_float16(stock: Any, tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="exceed float16"):
        export_plain(student_of(stock, "llama", torch.float16, nonorm=True, foldable=True), tiny.tokenizer(), tmp_path)
