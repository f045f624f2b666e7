"""A student is its base architecture in everything but the surgery, and reloads as it was, in a fresh process too."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from made_students import changes
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from midistill_tasks.errors import InputError
from midistill_tasks.models import architectures
from midistill_tasks.models.architectures import convert, interventions_of, register, student_config
from midistill_tasks.models.reload import probe

ROOT = Path(architectures.__file__).parents[2]
EVERYTHING = changes(nonorm=True, bottleneck=3, red_list=(5, 7), temperature=1.5)


def in_fresh_process(code: str, *args: object, package: bool = True) -> subprocess.CompletedProcess[str]:
    path = {"PYTHONPATH": str(ROOT)} if package else {}
    environment = {**os.environ, **path, "MIDISTILL_AUTOLOAD": "0"}
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def saved(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One shaken student of each architecture, in bfloat16 too, saved: folder → model."""
    top = tmp_path_factory.mktemp("students")
    models = {}
    for name in ("gpt2", "gpt_neox", "opt", "llama", "qwen2", "mistral", "gemma2"):
        for dtype in (torch.float32, torch.bfloat16):
            model = convert(stock.model(name).to(dtype), EVERYTHING)
            stock.shake(model)
            model.save_pretrained(top / f"{name}-{dtype}")
            models[str(top / f"{name}-{dtype}")] = model
    return models


@pytest.mark.slow
def test_every_architecture_comes_back_bit_for_bit_in_a_fresh_process(saved: dict[str, Any], tmp_path: Path) -> None:
    code = """
import sys, safetensors.torch, torch
from transformers import AutoModelForCausalLM
from midistill_tasks.models.architectures import register
from midistill_tasks.models.reload import probe
torch.set_num_threads(int(sys.argv[2]))
register()
found = {}
for folder in sys.argv[3:]:
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not any(info.values()), (folder, info)
    found[folder] = probe(model).contiguous()
safetensors.torch.save_file(found, sys.argv[1])
"""
    answer = tmp_path / "answer"
    run = in_fresh_process(code, answer, torch.get_num_threads(), *saved)
    assert run.returncode == 0, run.stderr
    found = safetensors.torch.load_file(answer)
    assert found.keys() == saved.keys()
    for folder, model in saved.items():
        assert torch.equal(found[folder], probe(model)), folder


def test_without_registration_a_stock_load_fails_and_names_midistill(saved: dict[str, Any]) -> None:
    code = """
import sys
from transformers import AutoModelForCausalLM
for folder in sys.argv[1:]:
    try:
        AutoModelForCausalLM.from_pretrained(folder)
    except ValueError as error:
        assert "model type `midistill`" in str(error), error
    else:
        raise SystemExit(f"{folder} was loaded as something else")
"""
    run = in_fresh_process(code, *saved, package=False)
    assert run.returncode == 0, run.stderr


def test_classes_are_made_again_where_they_are_unpickled(stock: Any, tmp_path: Path) -> None:
    student = convert(stock.model("gpt_neox"), EVERYTHING)
    (tmp_path / "pickle").write_bytes(pickle.dumps((student, student.config)))
    code = """
import pathlib, pickle, sys
student, config = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
print(type(student).__name__, type(config).__name__, config.midistill["bottleneck"])
"""
    run = in_fresh_process(code, tmp_path / "pickle")
    assert run.stdout.split() == ["MidistillGPTNeoXForCausalLM", "MidistillGPTNeoXConfig", "3"], run.stderr


def test_pickles_of_earlier_versions_name_other_modules(stock: Any, tmp_path: Path) -> None:
    """Until the rooms were made, the classes of students and their modules stood in `distill`."""
    student = convert(stock.model("gpt_neox"), changes(nonorm=True, bottleneck=3)).eval()
    pickled = pickle.dumps((student, student.config), protocol=0)  # it names modules in plain letters
    for now, then in (("models.architectures", "distill.architectures"), ("models.layers", "distill.surgery")):
        assert f"cmidistill_tasks.{now}\n".encode() in pickled
        pickled = pickled.replace(f"cmidistill_tasks.{now}\n".encode(), f"cmidistill_tasks.{then}\n".encode())
    (tmp_path / "pickle").write_bytes(pickled)
    torch.save(probe(student), tmp_path / "logits")
    code = """
import pathlib, pickle, sys, torch
student, config = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
from midistill_tasks.models.reload import probe
assert torch.equal(probe(student), torch.load(sys.argv[2]))
print(type(student).__name__, type(config).__name__)
"""
    run = in_fresh_process(code, tmp_path / "pickle", tmp_path / "logits")
    assert run.stdout.split() == ["MidistillGPTNeoXForCausalLM", "MidistillGPTNeoXConfig"], run.stderr


def test_an_unknown_name_is_no_class() -> None:
    with pytest.raises(AttributeError, match="MidistillNonsense"):
        _ = architectures.MidistillNonsense


def test_registering_twice_changes_nothing() -> None:
    register()
    before = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    register()
    assert before == MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert "midistill" in before  # or the harness warns of an unknown model type


def test_the_base_s_properties_are_the_student_s(stock: Any, architecture: str) -> None:
    model = stock.model(architecture)
    student = convert(model, EVERYTHING)
    assert isinstance(student, type(model))
    assert student.config.model_type == "midistill"
    assert student.config.max_position_embeddings == 64
    assert type(student.base_model) is type(model.base_model)
    assert student._no_split_modules == model._no_split_modules
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (student.get_output_embeddings().weight is student.get_input_embeddings().weight) == tied
    assert student.can_generate()


def test_new_modules_start_from_the_base_s_initial_values(stock: Any, architecture: str) -> None:
    """A new module outside the base's rules would start from uninitialised memory, or from another scale."""
    config = student_config(stock.model(architecture).config, EVERYTHING)
    torch.manual_seed(0)
    student = AutoModelForCausalLM.from_config(config)
    for name, parameter in student.named_parameters():
        if name.endswith((".down.weight", ".up.weight")):
            assert 0.01 < parameter.std() < 0.03, name  # initializer_range is 0.02
        if name.endswith((".down.bias", ".up.bias")):
            assert not parameter.any(), name
        if "norm" in name or "ln_" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name


def test_missing_weights_are_initialised_not_left_as_memory(stock: Any, tmp_path: Path) -> None:
    student = convert(stock.model("llama"), EVERYTHING)
    student.save_pretrained(tmp_path)
    weights = safetensors.torch.load_file(tmp_path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "input_layernorm" not in name and "down" not in name}
    safetensors.torch.save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(reloaded.model.layers[0].input_layernorm.weight, torch.ones(16))
    assert torch.equal(reloaded.model.layers[0].input_layernorm.bias, torch.zeros(16))
    assert 0.01 < reloaded.model.layers[0].mlp.gate_proj.down.weight.std() < 0.03


def test_no_intervention_leaves_the_stock_architecture(stock: Any) -> None:
    model = stock.model("llama")
    assert type(convert(model, changes())) is type(model)


def test_the_config_says_what_was_done(stock: Any, tmp_path: Path) -> None:
    convert(stock.model("gpt2"), EVERYTHING).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model_type"] == "midistill"
    assert written["midistill"] == {
        "base": "gpt2",
        "nonorm": True,
        "bottleneck": 3,
        "red_list": [5, 7],
        "temperature": 1.5,
    }
    assert interventions_of(AutoConfig.from_pretrained(tmp_path)) == EVERYTHING


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (None, "key 'midistill'"),
        ({"bottleneck": 3}, "'base' architecture"),
        ({"base": "gpt_neo_x"}, "did you mean 'gpt_neox'"),
        ({"base": "bert_japanese"}, "no causal LM"),
        ({"base": "gpt2", "bottelneck": 3}, "did you mean 'bottleneck'"),
        ({"base": "gpt2", "bottleneck": 0}, "midistill.bottleneck"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(ours: Any, message: str, tmp_path: Path) -> None:
    register()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "midistill", "midistill": ours}))
    with pytest.raises(InputError, match=message):
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path))


def test_interventions_on_a_student_are_refused(stock: Any) -> None:
    student = convert(stock.model("llama"), EVERYTHING)
    with pytest.raises(InputError, match="already a midistill student"):
        student_config(student.config, EVERYTHING)
