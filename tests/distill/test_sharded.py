"""FSDP2: two processes with half of the student each make the student of one; what does not run so is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from midistill_tasks.cli.main import main
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import InputError
from midistill_tasks.models import saving, sharded
from midistill_tasks.recipes.file import dump_recipe
from midistill_tasks.study.run import run_study

ON_CPU = '''
"""accelerate turns FSDP on where there are GPUs only; here it does with processes on CPUs. All else is its own code."""
import sys

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from midistill_tasks.distill import run
from midistill_tasks.models import sharded
from midistill_tasks.recipes.file import load_recipe

init = AcceleratorState.__init__


def on_cpu(self, *given, fsdp_plugin=None, **more):
    init(self, *given, fsdp_plugin=fsdp_plugin, **more)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        if self.mixed_precision != "no":
            fsdp_plugin.set_mixed_precision(self.mixed_precision)
        self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


class Watched(run.DistillationTrainer):
    def train(self, *given, **more):
        done = super().train(*given, **more)
        for module in filter(lambda module: isinstance(module, FSDPModule), self.model.modules()):
            module.reshard()  # the last forward gathered the head and what belongs to no layer
        assert all(p.to_local().numel() < p.numel() for p in self.model.parameters())
        assert not any(isinstance(p, DTensor) for p in self.teacher.parameters())
        return done


AcceleratorState.__init__, sharded.use_cpu, run.DistillationTrainer = on_cpu, lambda: False, Watched
run.run_recipe(load_recipe(sys.argv[1]), resume="--resume" in sys.argv)
'''
EXAMPLE = Path(__file__).parents[2] / "examples" / "accelerate" / "fsdp2.yaml"
NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": 0}


@pytest.fixture
def on_two(tmp_path):
    """Runs a recipe under accelerate's launcher with the example configuration; `kind` is of the checkpoints."""

    def on_two(recipe: Any, *flags: str, kind: str = "FULL_STATE_DICT") -> None:
        script, path, config = (tmp_path / name for name in ("distil.py", "two.yaml", "fsdp2.yaml"))
        script.write_text(ON_CPU)
        path.write_text(dump_recipe(recipe))
        # True is what accelerate takes by itself; it would leave the second process's teacher empty.
        ours = EXAMPLE.read_text().replace("FULL_STATE_DICT", kind)
        config.write_text(ours.replace("efficient_loading: false", "efficient_loading: true"))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)),
                *("--main_process_port", "0", str(script), str(path), *flags),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr

    return on_two


def curves(folder: str) -> dict[str, list[float]]:
    log = json.loads((Path(folder) / "midistill.json").read_text())["log"]
    return {name: [line[name] for line in log if name in line] for name in ("loss", "ce", "divergence", "grad_norm")}


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "model.safetensors")


CASES = {
    # 18 members: the last step of an epoch is not full. A clip below every gradient's norm.
    "plain": ("gpt_neox", "FULL_STATE_DICT", {"train__clip": 0.01}),
    "bottleneck and NoNorm": ("llama", "SHARDED_STATE_DICT", {"interventions": {"bottleneck": 4, "nonorm": True}}),
    "tied": ("gpt2", "FULL_STATE_DICT", {"train__accumulate": 2, "interventions": {"red_list": ["w3"]}}),
    "bf16": ("gpt_neox", "FULL_STATE_DICT", {"train__precision": "bf16"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_shares_make_the_student_of_one_process(case, recipe_of, on_two, tiny, tmp_path, monkeypatch):
    architecture, kind, changes = CASES[case]
    teacher = tmp_path / "teacher"
    tiny.model(architecture, **(NO_DROPOUT if architecture == "gpt2" else {})).save_pretrained(teacher)
    tiny.tokenizer().save_pretrained(teacher)
    changes |= {"teacher": {"model": str(teacher)}, "data__n": 18, "train__keep_checkpoints": True}
    one = recipe_of(output=str(tmp_path / "one"), train__batch_size=8, **changes)
    two = recipe_of(output=str(tmp_path / "two"), train__batch_size=4, **changes)
    monkeypatch.setattr(saving, "check_reload", lambda *_: None)  # that of the two processes is made
    record = run_recipe(one)
    on_two(two, kind=kind)
    near = {"rel": 1e-4} if case == "bf16" else {"rel": 1e-5, "abs": 1e-6}
    steps = curves(one.output)
    for name, figures in curves(two.output).items():
        assert figures == pytest.approx(steps[name], **({"rel": 1e-2} if case == "bf16" else near)), name
    made = json.loads((tmp_path / "two" / "midistill.json").read_text())
    assert made["measured"] == pytest.approx(record.measured, nan_ok=True, **near)
    assert (made["processes"], made["parameters"]) == (2, record.parameters)
    assert weights(one.output).keys() == weights(two.output).keys()
    if case != "bf16":  # its roundings depend on how many texts a forward has
        for name, tensor in weights(one.output).items():
            torch.testing.assert_close(weights(two.output)[name], tensor, rtol=1e-4, atol=2e-6)
    assert (Path(one.output) / "config.json").read_text() == (Path(two.output) / "config.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FULL_STATE_DICT", "SHARDED_STATE_DICT"])
def test_what_goes_on_from_a_checkpoint_is_the_undisturbed_run(kind, recipe_of, on_two, tmp_path):
    recipe = recipe_of(train__keep_checkpoints=True, train__batch_size=4)
    on_two(recipe, kind=kind)
    output = Path(recipe.output)
    undisturbed = weights(recipe.output)
    for path in output.iterdir():
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    shutil.rmtree(output / "checkpoints" / "checkpoint-6")
    with pytest.raises(InputError, match=r"checkpoint-4 was written under FSDP: go on under it, or give another outp"):
        run_recipe(recipe, resume=True)
    on_two(recipe, "--resume", kind=kind)
    resumed = weights(recipe.output)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in undisturbed.items())


def under(monkeypatch: pytest.MonkeyPatch, gpu: bool = True, **settings: str) -> None:
    """As `accelerate launch` begins a process."""
    monkeypatch.setattr(sharded, "use_cpu", lambda: not gpu)
    for name in ("ACCELERATE_USE_FSDP", "FSDP_VERSION", "FSDP_CPU_RAM_EFFICIENT_LOADING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.mark.parametrize(
    ("gpu", "settings", "said"),
    [
        (True, {"ACCELERATE_USE_DEEPSPEED": "true"}, r"DeepSpeed .*: take FSDP2 .* or torchrun"),
        (True, {**FSDP, "ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, r"a parallelism config .*: take FSDP2"),
        (False, FSDP, r"among GPUs, and there is none: take torchrun"),
        (True, {"ACCELERATE_USE_FSDP": "true"}, r"version 1 is not supported: add --fsdp_version 2"),
        (True, {**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, r"fsdp_offload_params: .*: set it to false"),
        (True, {**FSDP, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, r"activation_checkpointing .*: set it to false"),
    ],
)
def test_what_a_launcher_may_not_be_told(gpu, settings, said, recipe_of, monkeypatch, tmp_path):
    under(monkeypatch, gpu, **settings)
    with pytest.raises(InputError, match=f"^accelerate: .*{said}"):
        run_recipe(recipe_of())
    with pytest.raises(InputError, match=said):
        run_study(SimpleNamespace())
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"loss__on_policy": 0.5}, r"loss\.on_policy"),
        ({"student": {"every_nth_layer": 2, "reinitialise": False, "lora": {"rank": 2}}}, r"student\.lora"),
        ({"train__dp": {"epsilon": 8, "delta": 1e-2}}, r"train\.dp"),
        ({"teacher__fine_tune": {"folder": "tuned"}}, r"teacher\.fine_tune, once for all students,"),
    ],
)
def test_what_needs_the_whole_student_is_refused_under_fsdp(changes, key, recipe_of, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    under(monkeypatch, **FSDP)
    with pytest.raises(InputError, match=rf"^{key} does not run under FSDP: take torchrun"):
        run_recipe(recipe_of(**changes))
    assert not (tmp_path / "student").exists()


def test_a_study_is_refused_under_fsdp(monkeypatch):
    under(monkeypatch, **FSDP)
    with pytest.raises(InputError, match="a study, whose evaluations take whole models, does not run under FSDP"):
        run_study(SimpleNamespace())


def test_no_process_is_left_with_empty_models(monkeypatch):
    under(monkeypatch, **FSDP, FSDP_CPU_RAM_EFFICIENT_LOADING="true")
    sharded.check_launcher()
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"


def test_a_checkpoint_of_whole_weights_is_not_gone_on_from_under_fsdp(monkeypatch, tmp_path):
    sharded.check_checkpoint(tmp_path)
    under(monkeypatch, **FSDP)
    with pytest.raises(InputError, match=r"was written without FSDP: go on without it, or give another output$"):
        sharded.check_checkpoint(tmp_path)


def test_the_command_says_it_in_one_line(recipe_of, monkeypatch, tmp_path, capfd):
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe_of()))
    under(monkeypatch, gpu=False, **FSDP)
    assert main(["distill", str(path)]) != 0
    said = capfd.readouterr().err
    assert "midistill distill: accelerate: FSDP shares weights out among GPUs" in said
    assert "Traceback" not in said
