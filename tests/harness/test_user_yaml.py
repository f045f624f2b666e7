"""A user's own splits and tasks, by YAML alone, and other tasks in the same run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from midistill_tasks.errors import InputError
from midistill_tasks.harness.expand import groups
from midistill_tasks.harness.hooks import tasks as hooks

from .conftest import N, write_rows

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def mine(labelled: Path, tmp_path: Path) -> Callable[..., str]:
    """Writes ``mia_mine.yaml`` with the harness's own keys, changed as told; its path."""

    def mine(cls: str = "MIASplit", **changes: Any) -> str:
        content = {
            "task": "mia_mine",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"train": str(labelled)}},
            "test_split": "train",
            "doc_to_text": "sentence",
            "doc_to_target": "seen",
            "metadata": {"version": 1.0, "valid_for": "the model of this test"},
        }
        content = {key: value for key, value in {**content, **changes}.items() if value is not None}
        path = tmp_path / "mia_mine.yaml"
        path.write_text(f"class: !function midistill_tasks.task.{cls}\n{yaml.safe_dump(content)}")
        return str(path)

    return mine


def scores(result: dict[str, Any], task: str) -> dict[str, float]:
    return {sample["doc"]["id"]: sample["doc"]["score"] for sample in result["samples"][task]}


def test_one_file_gives_all_attacks_on_a_new_split(run: Run, mine, said):
    result = run([mine()])
    assert result["group_subtasks"] == {"mia_mine": [f"mia_{attack}_mine" for attack in groups()["mia"]]}
    expected = run("mia_files")
    for attack in set(groups()["mia"]) - {"ref"}:
        assert scores(result, f"mia_{attack}_mine") == pytest.approx(scores(expected, f"mia_{attack}_files"))
    assert len(said("mia_ref_mine is left out: it needs a reference model")) == 1
    assert said("[mine] labels are valid for the model of this test") != []
    assert result["configs"]["mia_loss_mine"]["metadata"]["midistill"]["split"] == "mine"


@pytest.mark.parametrize("name", ["bios", "bioss"])
def test_a_file_of_a_name_of_ours_or_nearly_so_still_reads_its_own_texts(run: Run, mine, name):
    result = run([mine(task=f"mia_{name}")])
    assert scores(result, f"mia_loss_{name}") == pytest.approx(scores(run("mia_loss_files"), "mia_loss_files"))


def test_one_file_with_an_attack_gives_that_task(run: Run, mine):
    result = run([mine("MIATask", task="mia_loss_mine", attack="loss")])
    assert scores(result, "mia_loss_mine") == pytest.approx(scores(run("mia_loss_files"), "mia_loss_files"))


def test_the_command_takes_the_file_by_its_path(command, mine, tiny, tmp_path):
    printed = command(
        *("--tasks", mine(), "--model", "hf", "--model_args", f"pretrained={tiny('gpt2')},dtype=float32"),
        *("--device", "cpu", "--batch_size", "8", "--metadata", '{"mia": {"n": 10}}'),
    ).out
    for attack in set(groups()["mia"]) - {"ref"}:
        assert f"mia_{attack}_mine" in printed
    assert "mia_ref_mine" not in printed


def test_the_file_in_a_folder_of_the_include_path_is_a_task_like_others(run: Run, mine, tmp_path):
    folder = Path(mine()).parent
    assert "auroc,none" in run("mia_mine", folders=[folder])["results"]["mia_zlib_mine"]


def test_templates_and_functions_read_texts_and_labels(run: Run, mine, tmp_path):
    (tmp_path / "mine_functions.py").write_text(
        "def keep(rows):\n    return rows.map(lambda row: {'side': 'train' if row['seen'] else 'held out'})\n"
        "def text(row):\n    return row['sentence']\n"
    )
    path = Path(mine(doc_to_text=None, doc_to_target="{{ 1 if side == 'train' else 0 }}"))
    path.write_text(
        path.read_text() + "process_docs: !function mine_functions.keep\ndoc_to_text: !function mine_functions.text\n"
    )
    assert scores(run([str(path)]), "mia_loss_mine") == pytest.approx(scores(run("mia_loss_files"), "mia_loss_files"))


def test_the_file_s_metric_list_chooses_the_columns(run: Run, mine):
    path = mine(metric_list=[{"metric": "tpr_at_0.1pct_fpr"}, {"metric": "balanced_acc_oracle"}, {"metric": "auroc"}])
    row = run([path])["results"]["mia_loss_mine"]
    assert {key.split(",")[0] for key in row} - {"name", "alias", "sample_len"} == {
        *("tpr_at_0.1pct_fpr", "tpr_at_0.1pct_fpr_stderr", "tpr_at_0.1pct_fpr_stderr_stderr"),
        *("balanced_acc_oracle", "balanced_acc_oracle_stderr"),
        *("auroc", "auroc_stderr", "auroc_stderr_stderr"),
    }
    assert row["balanced_acc_oracle_stderr,none"] == "N/A"


def test_options_in_the_file_are_defaults_for_the_run_s(run: Run, mine):
    path = mine(metadata={"n": 8, "k": 0.5})
    options = run([path], metadata={"mia": {"k": 0.1}})["configs"]["mia_mink_mine"]["metadata"]["midistill"]["options"]
    assert (options["n"], options["k"]) == (8, 0.1)


def test_a_local_copy_replaces_the_file_s_own_data(run: Run, mine, labelled, tmp_path):
    rows = [json.loads(line) for line in labelled.read_text().splitlines()][2:-2]
    copy = write_rows(tmp_path / "copy.jsonl", rows)
    result = run([mine()], metadata={"mia": {"dataset_path": str(copy)}})
    assert result["n-samples"]["mia_loss_mine"]["effective"] == 2 * (N - 2)


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"doc_to_text": "sentense"}, r"doc_to_text: there is no column 'sentense' \(did you mean 'sentence'\?\)"),
        (
            {"doc_to_text": "{{ sentense }}"},
            r"mine, row 1: doc_to_text: 'sentense' is undefined; columns: sentence, seen",
        ),
        ({"doc_to_target": None}, r"the task's YAML has no 'doc_to_target'; name a column: sentence, seen"),
        ({"doc_to_target": "sentence"}, r"mine, row 1: the label is '.*'; labels are 1 for members, 0 for non-members"),
        ({"doc_to_text": "seen"}, r"mine, row 1: 'text' is 1, not a string"),
        ({"test_split": "trian"}, r"has no part 'trian' \(did you mean 'train'\?\); its parts: train"),
        ({"test_split": None}, r"the task's YAML has no 'test_split'; add the part of the data set"),
        ({"dataset_path": None}, r"the task's YAML has no 'dataset_path'; add a hub name"),
        ({"metric_list": [{"metric": "aucroc"}]}, r"a MIA task has no metric 'aucroc' \(did you mean 'auroc'\?\)"),
        ({"metric_list": ["auroc"]}, r"metric_list: entries look like '- metric: auroc'"),
    ],
)
def test_a_mistake_in_the_file_is_named(run: Run, mine, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        run([mine(**changes)])


@pytest.mark.usefixtures("no_forward")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"attack": "mnk"}, r"YAML key 'attack' is 'mnk' \(did you mean 'mink'\?\); known: loss, zlib, mink"),
        ({}, r"YAML key 'attack' is ''; known: loss"),
        ({"attack": "loss", "split": "wikimia"}, r"YAML key 'split' is 'wikimia' \(did you mean 'wikimia_.*'\?\)"),
    ],
)
def test_an_attack_or_split_that_is_none_is_named(run: Run, mine, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        run([mine("MIATask", **changes)])


# ---------------------------------------------------------------------- other tasks in the same run


@pytest.fixture
def utility(tmp_path: Path, people: tuple[list[str], list[str]]) -> list[dict[str, Any]]:
    """A multiple-choice task such as hellaswag and a perplexity task such as wikitext, from data made here."""
    endings = [
        {"ctx": " ".join(text.split()[:6]), "endings": [" ".join(text.split()[6:]), "so on and on"], "label": 0}
        for text in people[0][:8]
    ]
    texts = [{"page": text} for text in people[1][:8]]
    common = {"dataset_path": "json", "test_split": "test"}
    return [
        {
            "task": "endings",
            **common,
            "dataset_kwargs": {"data_files": {"test": str(write_rows(tmp_path / "endings.jsonl", endings))}},
            "output_type": "multiple_choice",
            "doc_to_text": "ctx",
            "doc_to_choice": "endings",
            "doc_to_target": "label",
            "metric_list": [
                {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
            ],
        },
        {
            "task": "pages",
            **common,
            "dataset_kwargs": {"data_files": {"test": str(write_rows(tmp_path / "pages.jsonl", texts))}},
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "page",
            "metric_list": [
                {"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}
            ],
        },
    ]


def test_privacy_and_utility_stand_in_one_table(run: Run, utility):
    from lm_eval.utils import make_table

    mixed = run([utility[0], "mia_files", utility[1]])
    alone = [run("mia_files"), run(utility)]
    results = mixed["results"]
    for part in alone:
        for task, figures in part["results"].items():
            for name, value in figures.items():
                same = results[task][name]
                assert same == value or math.isnan(same) == math.isnan(value) is True, (task, name)
    for name in ("endings", "pages", "mia_minkpp_files"):
        assert name in make_table(mixed)
    assert results["pages"]["word_perplexity,none"] > 1
    assert 0 <= results["endings"]["acc_norm,none"] <= 1


def test_limits_and_prompting_flags_of_the_other_tasks_work_beside_ours(run: Run, utility):
    result = run([*utility, "mia_loss_files"], limit=4, system_instruction="Be kind.")
    assert {task: count["effective"] for task, count in result["n-samples"].items()} == {
        "endings": 4,
        "pages": 4,
        "mia_loss_files": 4,
    }


def test_the_split_is_called_as_the_yaml_says_and_not_as_the_task_s_name_ends(run: Run, mine):
    result = run([mine("MIATask", task="audit_of_march", attack="loss", split="notes")])
    assert result["configs"]["audit_of_march"]["metadata"]["midistill"]["split"] == "notes"
    group = run([mine(task="audit_of_may", split="notes")])
    assert {config["metadata"]["midistill"]["split"] for config in group["configs"].values()} == {"notes"}


def test_tasks_that_are_written_out_inside_a_group_are_built_by_their_class(lm, labelled, tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager, _factory

    keys = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"train": str(labelled)}},
        **{"test_split": "train", "doc_to_text": "sentence", "doc_to_target": "seen"},
    }
    inside = [("mia_mink_here", "MIATask", {"attack": "mink"}), ("mia_there", "MIASplit", {})]
    lines = ""
    for name, cls, more in inside:
        rest = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in {**keys, **more, "task": name}.items())
        lines += f"- class: !function midistill_tasks.task.{cls}\n{rest}"
    (tmp_path / "audit.yaml").write_text(f"group: audit\ntask:\n{lines}")
    before = _factory.ConfigurableTask
    hooks._build_inline()
    try:
        manager = TaskManager(include_defaults=False, include_path=[str(tmp_path)])
        result = lm_eval.simple_evaluate(model=lm, tasks=["audit"], task_manager=manager, bootstrap_iters=0)
    finally:
        _factory.ConfigurableTask = before
    assert "auroc,none" in result["results"]["mia_mink_here"]
    assert "auroc,none" in result["results"]["mia_strongest_there"]
