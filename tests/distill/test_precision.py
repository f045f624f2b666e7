"""``train.precision: bf16``: forward and backward in bfloat16, the rest in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from midistill_tasks.distill import run as run_module
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.models import saving


@pytest.fixture(autouse=True)
def _no_reload_check(monkeypatch):
    monkeypatch.setattr(saving, "check_reload", lambda *_: None)


@pytest.mark.parametrize("short_way", [True, False])
def test_a_student_in_bfloat16_learns_nearly_the_same_and_is_kept_in_float32(
    short_way, recipe_of, tmp_path, monkeypatch
):
    seen = set()

    class Watched(run_module.DistillationTrainer):
        def __init__(self, student, *rest):
            super().__init__(student, *rest)
            self.short_way = self.short_way and short_way
            layer = student.base_model.layers[0].mlp.dense_h_to_4h
            layer.register_forward_hook(lambda module, given, made: seen.add((module.training, made.dtype)))

    monkeypatch.setattr(run_module, "DistillationTrainer", Watched)
    losses = {}
    for precision in ("fp32", "bf16"):
        seen.clear()
        recipe = recipe_of(output=str(tmp_path / precision), train__precision=precision, train__epochs=6)
        log = run_recipe(recipe).log
        losses[precision] = [line["loss"] for line in log if "loss" in line]
        assert (True, torch.bfloat16 if precision == "bf16" else torch.float32) in seen
        saved = load_file(Path(recipe.output) / "model.safetensors")
        assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)


@pytest.mark.parametrize(("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP")])
def test_accelerate_reads_the_example_configurations(name, kind):
    from accelerate.commands.config.config_args import load_config_from_file

    read = load_config_from_file(str(Path(__file__).parents[2] / "examples" / "accelerate" / f"{name}.yaml"))
    assert (read.distributed_type, read.num_processes, read.mixed_precision) == (kind, 2, "no")
