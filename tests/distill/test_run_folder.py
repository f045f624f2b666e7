from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from midistill_tasks.distill.run_folder import RECORD, MarkWholeCheckpoints, open_run
from midistill_tasks.errors import InputError
from midistill_tasks.recipes.file import dump_recipe, load_recipe

STORED = """\
output: OUT
seed: 0
teacher:
  model: TEACHER
  config: null
  revision: null
  dtype: float32
  quantize: null
  fine_tune: null
  cache:
    folder: CACHE
    k: 128
student:
  config: null
  checkpoint: null
  every_nth_layer: 2
  reinitialise: true
  lora: null
data:
  split: files
  members: m.jsonl
  nonmembers: n.jsonl
  column: text
  dataset_path: null
  n: null
  seed: 0
  distil_on: null
  max_length: 128
loss:
  alpha: 0.5
  temperature: 2.0
  divergence: jsd
  beta: 0.3
  skew: 0.1
  compat: null
interventions:
  selection: sel
  non_vulnerable: true
  vulnerable_plus: null
  random_drop: false
  bottleneck: 8
  same_params: null
  nonorm: true
  all: true
  foldable: true
  red_list:
  - w3
  - 7
  temperature: 2.0
train:
  epochs: 2
  batch_size: 8
  accumulate: 1
  learning_rate: 0.001
  weight_decay: 0.01
  schedule: linear
  warmup_steps: 500
  clip: 1.0
  log_every: 50
  save_every: 500
  audit_every: 500
  audit_texts: 200
  loggers: []
"""
"""What version 0.1.0 at commit 82495d1 wrote for a recipe that asks for much."""


def write_checkpoint(output: str, step: int) -> Path:
    checkpoint = Path(output) / "checkpoints" / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_bytes(b"weights")
    args, state = SimpleNamespace(output_dir=checkpoint.parent), SimpleNamespace(global_step=step)
    state.is_world_process_zero = True
    MarkWholeCheckpoints().on_save(args, state, None)
    return checkpoint


def test_a_new_folder_gets_the_resolved_recipe(recipe_of):
    recipe = recipe_of()
    assert open_run(recipe, resume=False) is None
    assert load_recipe(f"{recipe.output}/recipe.yaml") == recipe


def test_another_run_is_never_touched(recipe_of):
    open_run(recipe_of(), resume=False)
    with pytest.raises(InputError, match=r"'train\.epochs' is 2 there, 3 in this recipe"):
        open_run(recipe_of(train__epochs=3), resume=True)
    with pytest.raises(InputError, match="unfinished: add --resume"):
        open_run(recipe_of(), resume=False)
    (Path(recipe_of().output) / RECORD).write_text("{}")
    with pytest.raises(InputError, match="finished: give another output"):
        open_run(recipe_of(), resume=True)


def test_a_recipe_that_an_earlier_version_stored_is_the_same_run(tmp_path):
    (tmp_path / "stored.yaml").write_text(STORED)
    recipe = load_recipe(str(tmp_path / "stored.yaml"), [f"output={tmp_path / 'run'}"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(STORED.replace("OUT", str(tmp_path / "run")))
    assert open_run(recipe, resume=True) is None
    now = dump_recipe(recipe).splitlines()
    came = (  # keys that came since
        *("  ngram:", "  dataset_revision:", "  keep_checkpoints:", "  precision:"),
        *("  id_column:", "  random_keep:", "  canaries:"),
        *(
            "  generate_from:",
            "  label_smoothing:",
            "  on_policy",
            "  ffn_dropout:",
            "  dp:",
            "    samples:",
            "    seed:",
        ),
    )
    later = [line for line in now if line.startswith(came)]
    assert [line for line in now if line not in later] == (tmp_path / "run" / "recipe.yaml").read_text().splitlines()


def test_a_key_that_came_later_is_no_difference_unless_it_is_used(recipe_of):
    open_run(recipe_of(), resume=False)
    path = Path(recipe_of().output) / "recipe.yaml"
    stored = path.read_text()
    for key in ("  skew: 0.1\n", "  temperature: null\n", "  same_params: null\n"):
        assert key in stored
        stored = stored.replace(key, "")
    path.write_text(stored)
    assert open_run(recipe_of(), resume=True) is None
    with pytest.raises(InputError, match=r"'loss\.skew' is 0\.1 there, 0\.2 in this recipe"):
        open_run(recipe_of(loss={"divergence": "forward_kl", "skew": 0.2}), resume=True)


def test_a_folder_with_something_else_is_refused(recipe_of):
    folder = Path(recipe_of().output)
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds no run of midistill"):
        open_run(recipe_of(), resume=True)
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_had_is_one_sentence(recipe_of, tmp_path):
    with pytest.raises(
        InputError, match=r"^output: .* cannot be written \(File name too long\): give a folder that can"
    ):
        open_run(recipe_of(output=str(tmp_path / ("x" * 300))), resume=False)


def test_resuming_takes_the_last_whole_checkpoint_and_moves_a_half_written_one_aside(recipe_of):
    recipe = recipe_of()
    open_run(recipe, resume=False)
    write_checkpoint(recipe.output, 2)
    last = write_checkpoint(recipe.output, 10)
    (write_checkpoint(recipe.output, 12) / "model.safetensors").write_bytes(b"wei")
    (write_checkpoint(recipe.output, 14) / "midistill_whole.json").unlink()
    assert open_run(recipe, resume=True) == last
    assert sorted(path.name for path in last.parent.iterdir()) == [
        "checkpoint-10",
        "checkpoint-2",
        "incomplete-12",
        "incomplete-14",
    ]


def test_no_whole_checkpoint_means_from_the_beginning(recipe_of):
    open_run(recipe_of(), resume=False)
    assert open_run(recipe_of(), resume=True) is None
