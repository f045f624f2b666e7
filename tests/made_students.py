"""Tiny models, tokenizers and recipes for the trainer's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

EOS, UNKNOWN = "<eos>", "<unk>"
WORDS = [f"w{number}" for number in range(60)]


def _tokenizer(words: list[str] | None = None) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: number for number, token in enumerate([EOS, UNKNOWN, *(words or WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, unk_token=UNKNOWN, pad_token=EOS)


def _model(model_type: str = "gpt_neox", layers: int = 2, vocab_size: int = 64, seed: int = 0, **more: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2}
    if model_type == "gpt2":
        sizes |= {"n_positions": 64}
    else:
        sizes |= {"intermediate_size": 32, "max_position_embeddings": 64}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, vocab_size=vocab_size, **{**sizes, **more})
    return AutoModelForCausalLM.from_config(config)


def _texts(number: int, seed: int = 0) -> list[str]:
    """Different texts of 3 to 12 words."""
    import random

    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) for _ in range(number)]


@pytest.fixture(scope="session")
def tiny() -> Any:
    """``tiny.tokenizer(words=None)``, ``tiny.model(model_type, layers, vocab_size, seed)``, ``tiny.texts(number)``."""
    return SimpleNamespace(tokenizer=_tokenizer, model=_model, texts=_texts, words=WORDS)


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved GPT-NeoX of two layers and width 16, with larger weights so that it has opinions."""
    import torch

    folder = tmp_path_factory.mktemp("teacher")
    model = _model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def recipe_of(tmp_path: Path, teacher_folder: Path) -> Callable[..., Any]:
    """Makes a small recipe; keyword arguments are ``section__key=value``."""
    import yaml

    from midistill_tasks.recipes.file import load_recipe

    texts = _texts(48)
    for name, part in (("members", texts[:24]), ("nonmembers", texts[24:])):
        lines = (json.dumps({"text": text}) + "\n" for text in part)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))

    def recipe_of(**changes: Any) -> Any:
        recipe: dict[str, Any] = {
            "output": str(tmp_path / "student"),
            "teacher": {"model": str(teacher_folder)},
            "student": {"every_nth_layer": 2},
            "data": {
                "members": str(tmp_path / "members.jsonl"),
                "nonmembers": str(tmp_path / "nonmembers.jsonl"),
                "max_length": 16,
            },
            "train": {"epochs": 2, "warmup_steps": 2, "log_every": 1, "save_every": 2, "audit_texts": 8},
        }
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name:
                recipe.setdefault(section, {})[name] = value
            else:
                recipe[section] = value
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return load_recipe(str(path))

    return recipe_of


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gpt_neox": {"intermediate_size": 32},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "llama": {"intermediate_size": 32, "num_key_value_heads": 1},
    "qwen2": {"intermediate_size": 32, "num_key_value_heads": 1},
    "mistral": {"intermediate_size": 32, "num_key_value_heads": 1},
    "gemma2": {"intermediate_size": 32, "num_key_value_heads": 1, "head_dim": 8},
}


def _stock_model(model_type: str, seed: int = 0, **more: Any) -> Any:
    """A tiny causal LM whose weights, those of the norms and biases too, are random and large enough to matter."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64}
    own = ARCHITECTURES.get(model_type, {})
    config = AutoConfig.for_model(
        model_type, vocab_size=64, **{**({} if model_type == "gpt2" else sizes), **own, **more}
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    shake(model)
    return model.eval()


def shake(model: Any) -> None:
    """Adds noise to every weight, so that none keeps a value that hides a mistake (0, 1)."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)


def changes(**keys: Any) -> Any:
    """Interventions, written as in a recipe or a student's ``config.json``."""
    from midistill_tasks.methods import read_interventions

    return read_interventions(keys)


@pytest.fixture(scope="session")
def stock() -> Any:
    """``stock.model(model_type, seed=0, **more)``, ``stock.shake(model)``."""
    return SimpleNamespace(model=_stock_model, shake=shake)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    """The model type of each architecture that the surgery knows."""
    return str(request.param)
