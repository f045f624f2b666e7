"""Tasks of planted canaries in the harness: what their rows show, and what travels in their samples."""

from __future__ import annotations

import math

import pytest
from made_results import samples

from midistill_tasks.canaries.make import Wanted, make
from midistill_tasks.harness.options import parse_options
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.epsilon import epsilon_lower
from midistill_tasks.metrics.exposure import exposure
from midistill_tasks.offline.attacks import attack_stats
from midistill_tasks.splits.canaries import read_canaries
from midistill_tasks.stats.parts import parts_below


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "canaries"
    make(Wanted(n=120, kind="random", repeats=(1, 3), seed=7), folder)
    return folder


def test_a_row_has_the_bound_and_the_exposure_of_its_samples_and_these_the_groups(run, folder, said):
    result = run("mia_loss_canaries,mia_recall_canaries", {"canaries": str(folder)})
    docs = [sample["doc"] for sample in result["samples"]["mia_loss_canaries"]]
    items = [Scored(doc["label"], doc["score"], doc["id"], doc["cluster"]) for doc in docs]
    about = result["configs"]["mia_loss_canaries"]["metadata"]["midistill"]
    row = result["results"]["mia_loss_canaries"]
    assert row["epsilon_lower,none"] == epsilon_lower(items, about["coins_after"])
    assert (row["exposure,none"], row["exposure_stderr,none"]) == pytest.approx(exposure(items))
    canaries = {canary.id: canary for side in read_canaries(folder)[1:] for canary in side}
    assert {doc["name"]: doc["group"] for doc in docs}.items() <= {
        name: str(canary.repeats) for name, canary in canaries.items()
    }.items()
    assert math.isnan(result["results"]["mia_recall_canaries"]["epsilon_lower,none"])
    assert len(said("[mia_recall_canaries] epsilon_lower is NaN: the attack puts texts of a known side")) == 1


@pytest.mark.parametrize(
    ("changes", "flags", "why"),
    [
        ({"n": 20}, {}, "run without the option n"),
        ({}, {"limit": 40}, "run without the option n and without --limit"),
        ({"k": [0.2, 0.4]}, {}, "chosen by the labels of other texts"),
    ],
)
def test_where_the_theorem_says_nothing_the_bound_is_nan_and_the_run_says_why(run, folder, said, changes, flags, why):
    result = run("mia_mink_canaries", {"canaries": str(folder), **changes}, **flags)
    figures = [
        value for name, value in result["results"]["mia_mink_canaries"].items() if name.startswith("epsilon_lower,")
    ]
    assert figures
    assert all(map(math.isnan, figures))
    assert len(said(f"epsilon_lower is NaN: {why}")) == 1 or len(said(why)) == 1


def test_any_task_may_show_it_but_only_coins_give_it_a_value(run, labelled, tmp_path, said):
    path = tmp_path / "mia_loss_mine.yaml"
    path.write_text(
        "class: !function midistill_tasks.task.MIATask\ntask: mia_loss_mine\nattack: loss\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{train: {labelled}}}}}\ntest_split: train\ndoc_to_text: sentence\n"
        "doc_to_target: seen\nmetric_list: [{metric: epsilon_lower}, {metric: exposure}]\nmetadata: {version: 1.0}\n"
    )
    row = run([str(path)], metadata={"mia": {}})["results"]["mia_loss_mine"]
    assert math.isnan(row["epsilon_lower,none"])
    assert 0 < row["exposure,none"] < 5
    assert said("the members of mine were not chosen by independent fair coins")


def test_the_groups_travel_with_saved_statistics_too(run, folder, tmp_path):
    result = run("mia_loss_canaries", {"canaries": str(folder), "save_stats": str(tmp_path)})
    groups = {sample["doc"]["id"]: sample["doc"]["group"] for sample in result["samples"]["mia_loss_canaries"]}
    (attacked,), _ = attack_stats(parts_below(tmp_path)[0], parse_options({}), ["loss"])
    assert {row["doc"]["id"]: row["doc"]["group"] for row in samples(parts_below(tmp_path)[0], attacked)} == groups
