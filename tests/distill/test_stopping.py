"""Ctrl-C and SIGTERM in a training: a checkpoint, one sentence, and a student as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from transformers import TrainerCallback

from midistill_tasks.cli.main import main
from midistill_tasks.distill import run as run_module
from midistill_tasks.distill.callbacks.leakage import Sample
from midistill_tasks.distill.run import run_recipe
from midistill_tasks.errors import Stopped
from midistill_tasks.models import saving
from midistill_tasks.recipes.file import dump_recipe

GO_ON = "to go on: midistill"


@pytest.fixture(autouse=True)
def _interruptible(monkeypatch):
    """A shell starts what runs in the background with SIGINT ignored."""
    monkeypatch.setattr(saving, "check_reload", lambda *_: None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def signals(monkeypatch):
    """``signals(3, SIGINT, …)``: these come while the trainer is at its third step."""
    due: dict[int, tuple[int, ...]] = {}

    class Sender(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            for number in due.pop(state.global_step + 1, ()):
                os.kill(os.getpid(), number)

    class Interrupted(run_module.DistillationTrainer):
        def __init__(self, *args):
            super().__init__(*args)
            self.add_callback(Sender())

    monkeypatch.setattr(run_module, "DistillationTrainer", Interrupted)
    return lambda step, *numbers: due.update({step: numbers})


@pytest.mark.parametrize("step", [2, 3, 6], ids=["amid an epoch", "at its end", "at the last step"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_where_it_was_and_ends_as_another(number, step, recipe_of, signals, tmp_path):
    whole = recipe_of(output=str(tmp_path / "whole"), train__save_every=500, train__log_every=50)
    stopped = recipe_of(output=str(tmp_path / "stopped"), train__save_every=500, train__log_every=50)
    undisturbed = run_recipe(whole)
    signals(step, number)
    with pytest.raises(Stopped, match=f"^step {step} of 6$") as ended:
        run_recipe(stopped)
    assert ended.value.status == 128 + number
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()] == [f"checkpoint-{step}"]
    resumed = run_recipe(stopped, resume=True)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)
    assert resumed.measured == undisturbed.measured
    means = [[line["train_loss"] for line in record.log if "train_loss" in line] for record in (resumed, undisturbed)]
    assert means[0][-1:] == pytest.approx(means[1], rel=1e-6)


def test_a_stopped_run_is_not_measured_once_more(recipe_of, signals):
    measured = []
    original = Sample.measure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sample, "measure", lambda *given: measured.append(1) or original(*given))
        signals(2, signal.SIGTERM)
        with pytest.raises(Stopped):
            run_recipe(recipe_of())
    assert len(measured) == 2  # the teacher, and the student as it began


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_first_signal_ends_at_once(first, recipe_of, signals, tmp_path):
    signals(2, first, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe_of(train__save_every=500))
    assert not list((tmp_path / "student" / "checkpoints").glob("checkpoint-*"))


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_sigterm_that_comes_once_more_takes_no_checkpoint_away(first, recipe_of, signals, tmp_path):
    signals(2, first, signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(Stopped, match=r"^step 2 of 6$"):
        run_recipe(recipe_of(train__save_every=500))
    assert (tmp_path / "student" / "checkpoints" / "checkpoint-2").is_dir()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_says_how_far_it_was_and_how_to_go_on(number, status, recipe_of, signals, tmp_path, capfd):
    path = tmp_path / "my recipe.yaml"
    path.write_text(dump_recipe(recipe_of()))
    signals(5, number)
    assert main(["distill", str(path)]) == status
    said = capfd.readouterr().err
    assert f"midistill distill: stopped at step 5 of 6; {GO_ON} distill '{path}' --resume\n" in said
    assert "stopping after this step" in said
    assert "Traceback" not in said
    assert main(["distill", str(path), "--resume"]) == 0


def test_a_study_keeps_the_checkpoint_too_and_goes_on_with_that_student(recipe_of, signals, tmp_path, capfd):
    recipe = recipe_of()
    sections = recipe.model_dump(mode="json", include={"teacher", "student", "data", "train"})
    study = {**sections, "output": str(tmp_path / "study"), "arms": {"plain": {}}, "evaluate": {"attacks": ["loss"]}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    signals(3, signal.SIGINT)
    assert main(["study", str(path)]) == 130
    assert f"midistill study: stopped at step 3 of 6; {GO_ON} study {path}\n" in capfd.readouterr().err
    student = tmp_path / "study" / "students" / "plain" / "0"
    assert (student / "checkpoints" / "checkpoint-3").is_dir()
    began = []

    class Began(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            began.append(state.global_step)

    plain = run_module.DistillationTrainer.__init__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.DistillationTrainer, "__init__", lambda t, *g: plain(t, *g) or t.add_callback(Began()))
        assert main(["study", str(path)]) == 0
    assert began == [3]
    assert (student / "midistill.json").is_file()


@pytest.mark.slow
def test_all_processes_of_a_launcher_stop_at_one_step(recipe_of, tmp_path):
    recipe = recipe_of(train__epochs=2000, train__batch_size=4, train__save_every=100_000)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(recipe))
    launched = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command = [*launched, "-m", "midistill_tasks.cli", "distill", str(path)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env)
    log = Path(recipe.output) / "midistill.log"
    until = time.monotonic() + 120
    while not (log.is_file() and "step 1:" in log.read_text()) and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[1]
    (checkpoint,) = (Path(recipe.output) / "checkpoints").glob("checkpoint-*")
    step = int(checkpoint.name.rpartition("-")[2])
    assert f"stopped at step {step} of 6000; {GO_ON}" in said, said
    assert json.loads((checkpoint / "midistill_whole.json").read_text())
