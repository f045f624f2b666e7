"""Nothing of a stranger's is executed without the user's flag, nothing climbs out, and tokens are not written."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from midistill_tasks.distill.data import load_texts
from midistill_tasks.errors import InputError
from midistill_tasks.harness.options import parse_options
from midistill_tasks.models.loading import load_teacher, load_tokenizer
from midistill_tasks.recipes.file import load_recipe
from midistill_tasks.recipes.schema import Data
from midistill_tasks.results.roles import read_group
from midistill_tasks.scoring.run import check_reference
from midistill_tasks.secrets import hide_in_logs, redact
from midistill_tasks.splits.sources import read_texts
from midistill_tasks.study.run import load_study

TOKEN = "hf_" + "a1B2" * 9


class Touches:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What appears where code of a stranger's was run."""
    return tmp_path / "it was executed"


@pytest.fixture
def pickled(tiny: Callable[..., Path], tmp_path: Path, canary: Path) -> Path:
    """A model folder whose weights are a pickle."""
    folder = tmp_path / "pickled"
    shutil.copytree(tiny("gpt2"), folder)
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Touches(canary)}, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def mapped(tiny: Callable[..., Path], tmp_path: Path, canary: Path) -> Path:
    """A model folder that brings its own code."""
    folder = tmp_path / "mapped"
    shutil.copytree(tiny("gpt2"), folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "its_own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    return folder


def test_the_canaries_would_sing(pickled, canary):
    torch.load(pickled / "pytorch_model.bin", weights_only=False)
    assert canary.exists()


@pytest.mark.parametrize("kind", ["pickled", "mapped"])
def test_a_model_folder_executes_nothing(kind, request, canary, scoring):
    folder = request.getfixturevalue(kind)
    with pytest.raises(InputError, match=r"teacher\.model: '.*' cannot be loaded as AutoModelForCausalLM: ") as refused:
        load_teacher(str(folder))
    assert "weights_only" not in str(refused.value)
    with pytest.raises((ValueError, pickle.UnpicklingError)):  # the harness's way
        scoring.load(folder)
    if kind == "mapped":
        load_tokenizer(str(folder), "teacher.model")
        with pytest.raises(InputError, match=r"the reference model '.*' cannot be loaded"):
            check_reference(json.dumps({"pretrained": str(folder)}))
    assert not canary.exists()


def test_the_code_of_a_folder_runs_with_the_users_flag_alone(mapped, canary):
    with pytest.raises(Exception, match="has no attribute"):
        check_reference(json.dumps({"pretrained": str(mapped), "trust_remote_code": True}))
    assert canary.exists()


@pytest.mark.parametrize("value", ["!function os.mkdir", "!!python/object/apply:os.mkdir ['{canary}']"])
def test_a_value_of_yaml_or_metadata_is_a_value(value, canary, tmp_path):
    value = value.format(canary=canary)
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"output: out\nteacher: {{model: t}}\nstudent: {{every_nth_layer: 2}}\ndata: {{members: {value}}}\n"
    )
    with pytest.raises(InputError, match=r"recipe\.yaml, line 4: this is not YAML"):
        load_recipe(str(path))
    options = parse_options({"mia": {"members": value, "nonmembers": "b.txt"}})
    assert options.splits["files"]["members"] == value
    assert not canary.exists()


def test_a_data_sets_script_is_not_run(tmp_path, canary):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "data.py").write_text(f"import os\nos.mkdir({str(canary)!r})\n")
    for source in (str(folder), {"path": str(folder)}, {"path": str(folder / "data.py")}):
        with pytest.raises(InputError):
            read_texts(source, "text")
    with pytest.raises(InputError):
        load_texts(Data(split="wikimia_64", dataset_path=str(folder)))
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../outside", "a/b", "/absolute", "..", ".hidden", ""])
@pytest.mark.parametrize("section", ["arms", "models"])
def test_no_name_of_a_run_climbs_out_of_the_output(section, name, tmp_path):
    path = tmp_path / "study.yaml"
    made = {name: {} if section == "arms" else "a-model"}
    recipe = {"output": "out", "teacher": {"model": "t"}, "student": {"every_nth_layer": 2}, "data": {"split": "bios"}}
    path.write_text(json.dumps(recipe | {section: made}))
    with pytest.raises(InputError, match="cannot name an arm"):
        load_study(str(path), [])


def test_a_study_from_a_stranger_has_nothing_read_outside_its_folder(tmp_path):
    (tmp_path / "study").mkdir()
    manifest = {"teacher": "results/teacher", "arms": {"a": {"0": "../elsewhere"}}, "controls": {}, "failed": []}
    for changed in ({"teacher": "../elsewhere"}, {"teacher": str(tmp_path)}):
        (tmp_path / "study" / "study.json").write_text(json.dumps(manifest | changed))
        with pytest.raises(InputError, match="is not below the study's folder"):
            read_group([tmp_path / "study"])


# ---------------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"pretrained=a/b,token={TOKEN},dtype=float32", "pretrained=a/b,token=hf_***,dtype=float32"),
        ("http://me:secret@host:8000/v1?model=m", "http://***@host:8000/v1?model=m"),
        ("https://host/v1?api_key=abcdef&model=m", "https://host/v1?api_key=***&model=m"),
        ("api_key=sk-proj-0123456789abcdefgh", "api_key=sk-***"),
        ("a text with hf_hub_download and http://host:80/a@b", "a text with hf_hub_download and http://host:80/a@b"),
    ],
)
def test_tokens_and_passwords_are_hidden_and_nothing_else(text, hidden):
    assert redact({"a": [text, 1, None], "b": (text,)}) == {"a": [hidden, 1, None], "b": (hidden,)}


def test_a_token_is_in_no_log_record(caplog):
    hide_in_logs()
    logging.getLogger("lm_eval").warning("arguments: %s", {"pretrained": "a/b", "token": TOKEN})
    logging.getLogger("lm_eval").warning("%d of %s", 1, "two")
    assert [record.getMessage() for record in caplog.records] == [
        "arguments: {'pretrained': 'a/b', 'token': 'hf_***'}", "1 of two",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_token_typed_into_lm_eval_is_in_nothing_that_it_writes(tiny, tmp_path):
    reference = {"pretrained": str(tiny("gpt2", seed=1)), "token": TOKEN}
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", "4", "--limit", "6"),
        *("--model_args", f"pretrained={tiny('gpt2')},token={TOKEN}", "--tasks", "mia_loss_bios,mia_ref_bios"),
        *("--metadata", json.dumps({"mia": {"reference": reference}}), "--log_samples", "--output_path", str(tmp_path)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) == 3
    assert TOKEN not in done.stderr + "".join(written.values())
    (results,) = (text for name, text in written.items() if name.startswith("results_"))
    assert "hf_***" in results
    assert "mia_ref_bios" in json.loads(results)["results"]


def test_a_recipe_takes_no_token_since_it_is_stored(tmp_path):
    path = tmp_path / "study.yaml"
    recipe = {"output": "out", "teacher": {"model": "t"}, "models": {"m": "a-model"}, "data": {"split": "bios"}}
    path.write_text(json.dumps(recipe | {"evaluate": {"reference": {"pretrained": "a/b", "token": TOKEN}}}))
    with pytest.raises(InputError, match=r"evaluate\.reference\.token holds an access token .* run `hf auth login`"):
        load_study(str(path), [])
