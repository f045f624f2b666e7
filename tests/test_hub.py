"""The hub: what is downloaded from an empty cache, what each of its faults is told as, and which commits were read."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from hub import Hub

from midistill_tasks.splits.bios import biographies

PEOPLE = biographies(60, seed=1)
PYTHIA, WIKIMIA, MIMIR = "EleutherAI/pythia-160m", "swj0419/WikiMIA", "iamgroot42/mimir"
DENIED = {
    "gated": "is gated: accept its terms at https://huggingface.co/",
    "private": "or private: check the name, or run `hf auth login`",
    "missing": "is not on the hub under this name",
    "truncated": "was not sent as it should be by the hub: run the same again, what is downloaded and computed is kept",
    "broken": "was not sent as it should be by the hub",
}
RETRIED = ("busy", "cut", "slow")
WAYS = ("file", "set", "model", "reference")
FAULTS = """
import json, sys
from midistill_tasks.errors import InputError
from midistill_tasks.models.loading import load_teacher
from midistill_tasks.scoring.run import check_reference
from midistill_tasks.splits.sources import read_texts

for fault in sys.argv[1:]:
    for way, load in (
        ("file", lambda: read_texts(f"hf://datasets/file/{fault}/a.jsonl", "text")),
        ("set", lambda: read_texts({"path": f"set/{fault}"}, "text")),
        ("model", lambda: load_teacher(f"model/{fault}")),
        ("reference", lambda: check_reference(json.dumps({"pretrained": f"reference/{fault}"}))),
    ):
        try:
            load()
            said = ""
        except InputError as error:
            said = str(error)
        print(json.dumps([fault, way, said]))
"""


RUNS = """
import json, sys
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from midistill_tasks.harness import yaml_folder

model, folder, gated = sys.argv[1:]
tasks = ["mia_loss_wikimia_64", "mia_loss_mimir_arxiv"]
for pretrained, names, mia in (
    (model, tasks, {}), (model, tasks[:1], {"dataset_revision": "v1"}), (folder, tasks[:1], {}), (gated, tasks[:1], {})
):
    manager = TaskManager(include_defaults=False, include_path=str(yaml_folder()), metadata={"mia": mia})
    results = simple_evaluate(
        model="hf", model_args={"pretrained": pretrained, "dtype": "float32"}, tasks=names, task_manager=manager,
        device="cpu", batch_size=8, bootstrap_iters=0,
    )
    told = {name: config["metadata"]["midistill"] for name, config in results["configs"].items()}
    print(json.dumps(told | {"sha": results["config"]["model_sha"]}))
"""


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def wikimia(texts: list[str]) -> dict[str, bytes]:
    """Its Parquet files, one a length."""
    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"input": texts, "label": [n % 2 for n in range(len(texts))]}), written)
    return {f"data/WikiMIA_length{n}-00000-of-00001.parquet": written.getvalue() for n in (32, 64, 128, 256)}


@pytest.fixture(scope="module")
def model(tiny: Callable[..., Path]) -> dict[str, bytes]:
    """Pythia's layout with a tiny model's weights."""
    return {path.name: path.read_bytes() for path in tiny("gpt_neox").iterdir()}


@pytest.fixture
def hub(model: dict[str, bytes]) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add("models", PYTHIA, model)
        hub.add("models", "distilgpt2", model)
        hub.add("datasets", WIKIMIA, wikimia(PEOPLE))
        sides = {"train": [*PEOPLE[:30]], "test": [*PEOPLE[30:]]}
        folder = "cache_100_200_1000_512"
        lines = {
            f"{folder}/{side}/arxiv_ngram_13_0.8.jsonl": "".join(json.dumps(text) + "\n" for text in texts).encode()
            for side, texts in sides.items()
        }
        hub.add("datasets", MIMIR, lines)
        yield hub


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run("-m", "lm_eval", …)`` on a machine whose HF_HOME is empty at first, in a folder of its own."""
    online = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    environment = online | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_data_and_models_come_from_the_hub_and_their_commits_stand_in_the_results(run, hub, tiny, model, tmp_path):
    """And a revision can be pinned, a folder is not asked for there, and what is denied is one sentence."""
    old = hub.add("datasets", WIKIMIA, wikimia(PEOPLE[:40]), revision="v1")
    hub.add("models", "owner/gated", model, "gated")
    shutil.copytree(tiny("gpt_neox"), tmp_path / "folder")
    done = run("-c", RUNS, PYTHIA, "folder", "owner/gated")

    newest, pinned, folder = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    current = hub.repositories["datasets", WIKIMIA].commit("main")
    assert newest["sha"] == hub.repositories["models", PYTHIA].commit("main")
    assert newest["mia_loss_wikimia_64"]["data_commits"] == {WIKIMIA: current}
    assert newest["mia_loss_mimir_arxiv"]["data_commits"] == {MIMIR: hub.repositories["datasets", MIMIR].commit("main")}
    assert newest["mia_loss_wikimia_64"]["counts"]["members"] == 30
    assert pinned["mia_loss_wikimia_64"]["data_commits"] == {WIKIMIA: old}
    assert pinned["mia_loss_wikimia_64"]["counts"]["members"] == 20
    assert pinned["mia_loss_wikimia_64"]["options"]["dataset_revision"] == "v1"
    assert folder["sha"] == ""
    assert [line for line in hub.asked if "/folder" in line] == []
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "it is gated: accept its terms" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_each_fault_is_one_sentence_with_the_remedy_or_is_retried(run, hub, model):
    texts = jsonl([f"{text} " * 20 for text in PEOPLE[:9]])
    for fault in (*DENIED, *RETRIED):
        hub.add("datasets", f"file/{fault}", {"a.jsonl": texts}, fault)
        hub.add("datasets", f"set/{fault}", {"train.jsonl": texts}, fault)
        hub.add("models", f"model/{fault}", model, fault)
        hub.add("models", f"reference/{fault}", model, fault)
    done = run("-c", FAULTS, *DENIED, *RETRIED)
    assert done.returncode == 0, done.stderr
    said = {(fault, way): text for fault, way, text in map(json.loads, done.stdout.splitlines())}
    assert len(said) == len(WAYS) * len((*DENIED, *RETRIED))
    for (fault, way), text in said.items():
        if fault in DENIED:
            assert DENIED[fault] in text, (fault, way)
            assert "\n" not in text
        else:
            assert not text, (fault, way)


@pytest.mark.slow
def test_a_study_of_a_pair_from_the_hub(run, hub, tmp_path):
    study = {
        "output": "study",
        "teacher": {"model": PYTHIA},
        "models": {"distilgpt2": "distilgpt2"},
        "data": {"split": "wikimia_64"},
        "evaluate": {"attacks": ["loss", "minkpp"]},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    done = run("-m", "midistill_tasks.cli", "study", "study.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study" / "report" / "index.html").is_file()
    asked = len(hub.asked)
    again = run("-m", "midistill_tasks.cli", "study", "study.yaml")
    assert again.returncode == 0
    assert [line for line in hub.asked[asked:] if line.startswith("GET") and "/resolve/" in line] == []
