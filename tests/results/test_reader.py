"""Reading what the harness wrote, and refusing what cannot be used with a sentence that says what to do."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from made_results import DATE

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.results.matching import match_texts
from midistill_tasks.results.reader import read_attacks, read_run, read_runs
from midistill_tasks.results.run import FIGURES
from midistill_tasks.results.samples import read_samples

LABELS = [1, 0] * 20
SCORES = [float(number % 7) + label for number, label in enumerate(LABELS)]


def change(path: Path, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_a_run_holds_what_the_files_say(tmp_path: Path, write_output) -> None:
    utility = {"wikitext": {"word_perplexity": (20.5, "N/A", False)}, "arc": {"acc": (0.4, 0.02, True)}}
    write_output(tmp_path / "a", LABELS, {"loss": SCORES, "zlib": SCORES[::-1]}, model="org/a", utility=utility)
    run = read_run(tmp_path)
    assert (run.model, run.splits, list(run.tasks)) == ("org/a", ["made"], ["mia_loss_made", "mia_zlib_made"])
    task = run.on("made")["loss"]
    assert task.items == tuple(
        Scored(label, score, f"{n:016x}", f"{n:016x}")
        for n, (label, score) in enumerate(zip(LABELS, SCORES, strict=True))
    )
    assert task.texts[f"{3:016x}"] == f"words of {3:016x}"
    assert task.blind == (0.5, 0.05)
    assert run.versions["lm_eval"] == "0.4.13"
    assert set(run.utility) == {"wikitext/word_perplexity", "arc/acc"}, "no row of an attack, nor of a group of attacks"
    assert run.utility["arc/acc"][2:] == (0.4, 0.02, True)
    assert math.isnan(run.utility["wikitext/word_perplexity"].stderr)


def test_texts_are_ordered_by_id_whatever_their_order_in_the_file(tmp_path: Path, write_output) -> None:
    ids = [f"{n:016x}" for n in range(len(LABELS))]
    shuffled = np.random.default_rng(0).permutation(len(ids))
    write_output(tmp_path / "a", LABELS, {"loss": SCORES}, ids=ids)
    write_output(
        tmp_path / "b",
        [LABELS[i] for i in shuffled],
        {"loss": [SCORES[i] for i in shuffled]},
        ids=[ids[i] for i in shuffled],
    )
    one, other = (read_run(tmp_path / name).on("made")["loss"] for name in "ab")
    assert one.items == other.items


def test_the_figures_are_the_metrics_of_the_samples(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, LABELS, {"loss": SCORES})
    task = read_run(tmp_path).on("made")["loss"]
    for name in FIGURES:
        expected = METRICS[name].value(task.items), METRICS[name].stderr(task.items)
        expected = (expected[0], math.nan if expected[1] == "N/A" else expected[1])
        assert task.measured[name] == pytest.approx(expected, nan_ok=True)


def test_the_newest_run_with_attacks_counts(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, LABELS, {"loss": SCORES}, date="2026-01-01T00-00-00.000001")
    write_output(tmp_path, LABELS, {"zlib": SCORES}, date="2026-01-01T00-00-00.000002")
    write_output(tmp_path, LABELS, {}, date="2026-01-02T00-00-00.000000", utility={"arc": {"acc": (0.4, 0.02, True)}})
    run = read_run(tmp_path)
    assert (run.date, list(run.tasks)) == ("2026-01-01T00-00-00.000002", ["mia_zlib_made"])


def test_one_results_file_can_be_named(tmp_path: Path, write_output) -> None:
    old = write_output(tmp_path, LABELS, {"loss": SCORES}, date="2026-01-01T00-00-00.000001")
    write_output(tmp_path, LABELS, {"zlib": SCORES}, date="2026-01-01T00-00-00.000002")
    assert list(read_run(old).tasks) == ["mia_loss_made"]


def test_a_folder_of_fifty_models_is_read_quickly(tmp_path: Path, write_output) -> None:
    rng = np.random.default_rng(0)
    for number in range(50):
        scores = {attack: rng.normal(size=200) for attack in ("loss", "zlib", "mink", "minkpp")}
        write_output(tmp_path / f"model{number:02}", [1, 0] * 100, scores, model=f"model{number:02}")
    start = time.perf_counter()
    runs = read_runs(tmp_path)
    assert [run.model for run in runs] == [f"model{number:02}" for number in range(50)]
    assert time.perf_counter() - start < 10, "about one second on two free cores"
    with pytest.raises(InputError, match="holds the results of 50 models; name one"):
        read_run(tmp_path)


def test_texts_may_have_been_kept_out_of_the_samples(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, LABELS, {"loss": SCORES}, text=None)
    task = read_run(tmp_path).on("made")["loss"]
    assert task.texts == {}
    assert len(task.items) == len(LABELS)


def test_single_missing_scores_stay_and_an_attack_without_any_is_named(tmp_path: Path, write_output) -> None:
    reasons = {"needs a reference model": len(LABELS)}
    holes = [math.nan if number < 4 else score for number, score in enumerate(SCORES)]
    path = write_output(tmp_path, LABELS, {"loss": holes, "ref": [math.nan] * len(LABELS)})
    change(
        path,
        lambda content: content["configs"]["mia_ref_made"]["metadata"]["midistill"].update(unscored_reasons=reasons),
    )
    run = read_run(tmp_path)
    assert int(np.isnan(run.on("made")["loss"].scores).sum()) == 4
    assert run.skipped == {"mia_ref_made": "needs a reference model"}
    assert not math.isnan(run.on("made")["loss"].measured["auroc"].value)


def test_too_few_texts_for_a_threshold_are_refused_by_name(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, [1, 0], {"loss": [1.0, 0.0]})
    with pytest.raises(InputError, match="mia_loss_made: a threshold needs scored texts of both classes"):
        read_run(tmp_path)


def test_an_attack_with_too_few_scores_is_named_and_the_others_stay(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, LABELS, {"loss": SCORES, "mink": [1.0, *[math.nan] * (len(LABELS) - 1)]})
    run = read_run(tmp_path)
    assert list(run.tasks) == ["mia_loss_made"]
    assert run.skipped["mia_mink_made"].startswith("a threshold needs scored texts of both classes")


def test_nothing_but_missing_scores_is_refused(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, LABELS, {"loss": [math.nan] * len(LABELS)})
    with pytest.raises(
        InputError, match="no MIA task has enough scores to be judged; mia_loss_made: the scores are NaN"
    ):
        read_run(tmp_path)


def test_a_run_without_samples_says_what_to_add(tmp_path: Path, write_output) -> None:
    path = write_output(tmp_path, LABELS, {"loss": SCORES})
    next(tmp_path.glob("samples_*")).unlink()
    with pytest.raises(InputError, match="run lm_eval again with --log_samples"):
        read_run(path)


def test_one_class_is_refused(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, [1] * 40, {"loss": SCORES})
    with pytest.raises(InputError, match="all 40 texts are of one class"):
        read_run(tmp_path)


def test_a_file_of_another_version_is_refused_by_what_it_lacks(tmp_path: Path, write_output) -> None:
    path = write_output(tmp_path, LABELS, {"loss": SCORES}, versions={"midistill": "0.0.7"})
    change(path, lambda content: content["configs"]["mia_loss_made"]["metadata"]["midistill"].pop("data_sha256"))
    with pytest.raises(InputError, match=r"written by midistill 0\.0\.7, which does not say its data_sha256"):
        read_run(path)


def test_samples_of_other_texts_are_refused(tmp_path: Path, write_output) -> None:
    path = write_output(tmp_path, LABELS, {"loss": SCORES})
    sample = next(tmp_path.glob("samples_*"))
    sample.write_text("".join(sample.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(InputError, match=r"its 38 texts are not those of results_.*data_sha256 differs"):
        read_run(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not a sample"),
        ('{"doc": {"id": "b", "label": 1}}', "line 2 is not a sample"),
        ('{"doc": {"id": "b", "label": 2, "score": 1.0}}', "line 2: the label is 2"),
        ('{"doc": {"id": "a", "label": 1, "score": 2.0}}', "line 2: the text a stands here twice"),
    ],
)
def test_a_broken_sample_is_named_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"doc": {"id": "a", "label": 1, "score": 1.0}}\n' + line + "\n")
    with pytest.raises(InputError, match=message):
        read_samples(path)


def test_a_text_may_stand_twice_with_the_same_figures(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"doc": {"id": "a", "label": 1, "score": NaN, "text": "<script>"}}\n' * 2)
    items, texts, _, ranks, *_ = read_samples(path)
    assert [item.id for item in items] == ["a"]
    assert texts == {"a": "<script>"}
    assert math.isnan(ranks[0])


def test_the_blind_baseline_s_ranks_come_in_the_order_of_the_texts(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    docs = [{"id": name, "label": 1, "score": 1.0, "blind_rank": rank} for name, rank in (("b", 0.2), ("a", 1))]
    path.write_text("".join(json.dumps({"doc": doc}) + "\n" for doc in docs))
    assert read_samples(path).blind_ranks == (1.0, 0.2)


@pytest.mark.parametrize(
    ("content", "message"),
    [("no JSON", "no readable JSON"), ("[]", "has no 'results'"), ('{"results": {}}', "holds no MIA task")],
)
def test_a_file_that_is_not_the_harnesses_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "results_x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_run(path)


def test_a_place_without_results_is_refused(tmp_path: Path, write_output) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no results_\*\.json"):
        read_run(tmp_path)
    write_output(tmp_path, LABELS, {}, utility={"arc": {"acc": (0.4, 0.02, True)}})
    with pytest.raises(InputError, match="of no MIA task"):
        read_run(tmp_path)


@pytest.mark.parametrize("attack", ["my_attack", "mink_by_word"])
def test_an_attacks_name_may_hold_an_underscore(tmp_path: Path, write_output, attack: str) -> None:
    write_output(tmp_path, LABELS, {attack: SCORES, "mink": SCORES}, split="by_word_made")
    found = read_attacks([tmp_path])
    assert {name: (result.attack, result.split) for name, result in found.items()} == {
        attack: (attack, "by_word_made"),
        "mink": ("mink", "by_word_made"),
    }
    assert found[attack].path == tmp_path / f"samples_mia_{attack}_by_word_made_{DATE}.jsonl"
    assert found[attack].items == read_run(tmp_path).on("by_word_made")[attack].items


def test_samples_without_their_results_are_of_the_longest_attack_that_is_known(
    tmp_path: Path, write_output, monkeypatch
) -> None:
    known = {"my": None, "my_attack": None}
    monkeypatch.setattr("midistill_tasks.results.reader.ATTACKS", known)
    write_output(tmp_path, LABELS, {"my_attack": SCORES, "my": SCORES}).unlink()
    assert {name: result.split for name, result in read_attacks([tmp_path]).items()} == {
        "my": "made",
        "my_attack": "made",
    }
    known.clear()
    with pytest.raises(
        InputError, match=r"no attack that is known here begins this name, and there is no results_2026"
    ):
        read_attacks([tmp_path])


def test_samples_of_two_models_are_refused(tmp_path: Path, write_output) -> None:
    """As of a student that was evaluated later into the same --output_path: by an attack each, or by the same."""
    labels, scores = [0, 1] * 4, list(range(8))
    write_output(tmp_path / "teacher", labels, {"loss": scores, "mink": scores}, model="big")
    write_output(tmp_path / "student", labels, {"loss": scores}, model="small", date="2026-02-02T03-04-05.678901")
    with pytest.raises(InputError, match=r"are of 2 models \(big, small\): give the folder or the files of one"):
        read_attacks([tmp_path])
    assert set(read_attacks([tmp_path / "teacher"])) == {"loss", "mink"}


def test_samples_are_of_one_split_and_named_as_the_harness_names_them(tmp_path: Path, write_output) -> None:
    write_output(tmp_path, LABELS, {"loss": SCORES})
    write_output(tmp_path, LABELS, {"loss": SCORES}, split="other", date="2026-01-02T03-04-05.678902")
    with pytest.raises(InputError, match=r"belong to several splits \(made, other\)"):
        read_attacks([tmp_path])
    path = tmp_path / "loss.jsonl"
    path.write_text("")
    with pytest.raises(InputError, match=r"is not named samples_mia_<attack>_<split>_<date>\.jsonl"):
        read_attacks([path])
    path = tmp_path / f"samples_mia_loss_made_{DATE}.jsonl"
    path.write_text("")
    with pytest.raises(InputError, match="is empty: run the harness again with --log_samples"):
        read_attacks([path])


def test_texts_are_matched_by_id_and_counted(make_task) -> None:
    first, second = make_task([1, 0, 1, 0], [0.0] * 4), make_task([1, 1, 1], [0.0] * 3)
    assert match_texts(first, second) == (3, 1, 2)  # shared, with another label, lacking or with another label
    assert match_texts(first, first) == (4, 0, 0)


def test_what_lm_eval_really_wrote_can_be_read(tmp_path: Path, task_manager, stories260k: Path, shared: Path) -> None:
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(tmp_path))
    metadata = {"mia": {"n": 10, "dataset_path": str(shared / "data/wikimia/wikimia_32.jsonl")}}
    tasks = lm_eval.tasks.TaskManager(
        include_defaults=False, include_path=[str(path) for path in task_manager.include_path], metadata=metadata
    )
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(stories260k), "dtype": "float32"},
        tasks=["mia_wikimia_32"],
        device="cpu",
        batch_size=4,
        log_samples=True,
        task_manager=tasks,
        evaluation_tracker=tracker,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name in results["configs"]:
        tracker.save_results_samples(task_name=name, samples=samples[name])
    run = read_run(tmp_path)
    assert sorted(run.on("wikimia_32")) == ["loss", "mink", "minkpp", "recall", "zlib"]
    assert list(run.skipped) == ["mia_ref_wikimia_32"]
    for task in run.tasks.values():
        assert len(task.items) == 20
        assert task.measured["auroc"].value == pytest.approx(task.figures["auroc"].value)
        assert task.measured["balanced_acc"] == pytest.approx(task.figures["balanced_acc"])


def test_of_a_swept_option_the_score_chosen_on_the_other_half_counts(tmp_path: Path) -> None:
    path = tmp_path / "samples_mia_mink_x_2026-01-01T00.jsonl"
    rows = [
        {"doc": {"id": id, "label": label, "score": score}, "filter": name}
        for name, scores in (("crossfit", (0.1, 0.9)), ("k=0.1", (-3.0, -4.0)))
        for id, label, score in zip("ab", (0, 1), scores, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [item.score for item in read_samples(path).items] == [0.1, 0.9]
