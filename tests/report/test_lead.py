"""The head of the page: answers counted, and what a reader must know before any figure."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from made_page import Tags

from midistill_tasks.compare.pareto import strongest_leak
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.roc import auroc
from midistill_tasks.report.build import build
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group


def test_the_first_paragraph_counts_the_verdicts_and_the_failed_arm_is_named(page):
    words = Tags(page.read_text()).words
    assert "Of 2 comparisons with teacher: 1 safer (nonorm), 1 leaks less, still leaks (vanilla)." in words
    assert "Interventions against their controls: 1 safer (nonorm)." in words
    assert "bottleneck, seed 0: no space left" in words
    assert "A weaker model leaks less" in words


def test_a_model_that_leaks_nothing_is_said_to_leak_nothing(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(2), 400, 0.0)
    write_output(tmp_path / "m", labels, {"loss": scores})
    page = build(read_group([tmp_path]))
    assert page.statements[0].word == "no leak found"


def test_the_blind_baseline_is_warned_of_where_it_wins(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(3), 200, 0.5)
    path = write_output(tmp_path / "m", labels, {"loss": scores})
    content = json.loads(path.read_text())
    content["results"]["mia_loss_made"] |= {"blind_auroc,none": 0.99, "blind_auroc_stderr,none": 0.01}
    path.write_text(json.dumps(content))
    page = build(read_group([tmp_path]))
    assert page.statements[0].word == "undecided"
    assert "at least as good as 1 of 1 results" in page.warnings[0]
    assert "AUROC 0.990 [0.970, 1.000]" in page.warnings[0]
    assert page.warnings[0].endswith("how the two sets of texts differ.")
    content["configs"]["mia_loss_made"]["metadata"]["midistill"]["independent_coins"] = True
    path.write_text(json.dumps(content))
    again = build(read_group([tmp_path]))
    assert not again.warnings, "where coins chose, one half is what chance gives, whatever words tell"
    assert again.statements[0].word == "leaks"


@pytest.mark.parametrize("sign", [1, -1])
def test_beside_a_tpr_of_nothing_it_is_said_that_an_attacker_turns_the_score(write_output, draw, tmp_path, sign):
    labels, scores = draw(np.random.default_rng(3), 400, 2.0)
    write_output(tmp_path / "m", labels, {"loss": sign * scores, "mink": 0.0 * scores})
    page = build(read_group([tmp_path]))
    assert page.statements[0].opening.startswith("Yes: at 2 false accusations in 200 non-members")
    (_, note) = page.sections[0].tables[0]
    assert note.endswith("where members score lower (loss), an attacker turns the sign, and these say little.") is (
        sign < 0
    )


@pytest.mark.parametrize("coins", [False, True])
def test_other_non_members_are_advised_only_where_coins_did_not_choose_them(write_output, tmp_path, coins):
    rng, labels = np.random.default_rng(3), np.arange(200) % 2
    for name in ("t", "s"):
        path = write_output(tmp_path / name, labels, {"loss": rng.normal(size=200)}, name, independent_coins=coins)
        content = json.loads(path.read_text())
        content["results"]["mia_loss_made"] |= {"blind_auroc,none": 0.62, "blind_auroc_stderr,none": 0.05}
        path.write_text(json.dumps(content))
    page = build(read_group([tmp_path], "t"))
    assert page.statements[0].word == "undecided"
    assert any("Words alone tell the two sides apart" in advice for advice in page.next) is not coins


@pytest.mark.parametrize(("blind", "word"), [(0.6, "leaks"), (0.68, "undecided"), (0.99, "undecided")])
def test_a_model_leaks_only_where_an_attack_beats_the_words_by_more_than_the_errors(
    write_output, draw, tmp_path, blind, word
):
    labels, scores = draw(np.random.default_rng(3), 400, 0.8)
    path = write_output(tmp_path / "m", labels, {"loss": scores})
    content = json.loads(path.read_text())
    content["results"]["mia_loss_made"] |= {"blind_auroc,none": blind, "blind_auroc_stderr,none": 0.02}
    path.write_text(json.dumps(content))
    assert 0.69 < auroc(labels, scores) < 0.74
    assert build(read_group([tmp_path])).statements[0].word == word


def test_models_side_by_side_that_were_attacked_otherwise_are_warned_of(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60)
    for number in range(5):
        k = {"k": 0.2 if number else 0.3, "first_token": "skip"}
        write_output(tmp_path / f"m{number}", labels, {"mink": scores, "loss": scores}, f"m{number}", options=k)
        path = write_output(
            tmp_path / "v", labels, {"loss": scores}, "v", versions={"midistill": "0.0.1", "numpy": "2"}
        )
    assert path.is_file()
    warnings = build(read_group([tmp_path])).warnings
    assert (
        "The figures of mink on made do not compare: 'k' differs (0.3 for m0, 0.2 for m1, m2 and 2 more)."
    ) in warnings
    assert "The versions of midistill differ (0.1.0 for m0, m1 and 3 more, 0.0.1 for v)." in warnings


def test_an_intervention_is_not_called_safer_where_words_tell_as_much(study, tmp_path):
    shutil.copytree(study, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("results_*.json"):
        content = json.loads(path.read_text())
        for row in content["results"].values():
            if "blind_auroc,none" in row:
                row |= {"blind_auroc,none": 0.97, "blind_auroc_stderr,none": 0.02}
        path.write_text(json.dumps(content))
    assert "Interventions against their controls: 1 undecided (nonorm)" in build(read_group([tmp_path / "copy"])).lead


def test_students_of_one_arm_on_different_texts_are_warned_of(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 80)
    for n in (60, 80):
        write_output(tmp_path / str(n), labels[:n], {"loss": scores[:n]}, "s")
    page = build(read_group([f"arm={tmp_path / '60'}", f"arm={tmp_path / '80'}"]))
    assert any("different texts" in warning for warning in page.warnings)


@pytest.mark.parametrize("fuller", [0, 1])
def test_an_attack_that_not_all_students_of_an_arm_have_is_named_and_left_out(write_output, draw, tmp_path, fuller):
    labels, scores = draw(np.random.default_rng(4), 60)
    for number in (0, 1):
        more = {"mink": 9.0 * labels} if number == fuller else {}  # it would be the strongest
        write_output(tmp_path / str(number), labels, {"loss": scores, **more}, f"s{number}")
    page = build(read_group([f"arm={tmp_path / '0'}", f"arm={tmp_path / '1'}"]))
    assert "The strongest attack on arm is loss (mean over 2 students" in page.statements[0].sentence
    assert f"arm: in its answer mink is left out: it ran on arm, run {fuller + 1} only." in page.warnings


def test_an_attack_of_few_texts_does_not_hide_what_another_shows_of_all(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 200)
    few = np.where(np.arange(200) < 40, 9.0 * labels, np.nan)  # it would be the strongest
    write_output(tmp_path / "m", labels, {"loss": scores, "ref": few})
    assert strongest_leak(read_run(tmp_path / "m"), "made")[0] == "loss"
    page = build(read_group([tmp_path]))
    assert (page.statements[0].word, dict(page.statements[0].figures)["strongest attack"]) == ("leaks", "loss")
    assert page.sections[0].tables[0][0].rows[0][1] == "loss"
    assert "a-model: in its answer ref is left out: more than half of the texts lack a score." in page.warnings
    write_output(tmp_path / "alone" / "m", labels, {"ref": few})
    figures = dict(build(read_group([tmp_path / "alone"])).statements[0].figures)
    assert figures["strongest attack"] == "ref", "there is no other"


def test_students_of_an_arm_without_an_attack_in_common_have_no_figures(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60)
    for attack in ("loss", "mink"):
        write_output(tmp_path / attack, labels, {attack: scores}, attack)
    with pytest.raises(InputError, match=r"no split on which all seeds of a model have figures \(made\)"):
        build(read_group([f"arm={tmp_path / 'loss'}", f"arm={tmp_path / 'mink'}"]))


def test_a_split_without_a_comparison_is_named_and_is_not_what_the_answers_rest_on(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60)
    for name in ("t", "s"):
        path = write_output(tmp_path / name, labels, {"loss": scores}, name)
        if name == "t":
            with_another_split = json.loads(path.read_text())
            other = write_output(tmp_path / name, labels[:40], {"loss": scores[:40]}, name, split="other")
            for key, value in json.loads(other.read_text()).items():
                with_another_split[key] = {**with_another_split[key], **value} if isinstance(value, dict) else value
            path.write_text(json.dumps(with_another_split))
    page = build(read_group([tmp_path], str(tmp_path / "t")))
    assert [statement.about for statement in page.statements] == ["s on made"]
    assert "Measured on 30 members and 30 non-members of made, 1 attack, with 95 % intervals" in page.lead
    assert "other has figures and no comparison: not all models were attacked on it." in page.warnings


def test_a_split_that_not_all_seeds_of_an_arm_have_is_named_and_left_out(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60)
    write_output(tmp_path / "s" / "0", labels, {"loss": scores}, "s")
    write_output(tmp_path / "s" / "1", labels, {"loss": scores}, "s", split="other")
    write_output(tmp_path / "t", labels, {"loss": scores}, "t")
    page = build(read_group([f"arm={tmp_path / 's'}", str(tmp_path / "t")]))
    assert "other is left out: no model, or not all seeds of one, have figures on it." in page.warnings
    assert [statement.about for statement in page.statements] == ["t"]
    with pytest.raises(InputError, match=r"no split on which all seeds of a model have figures \(made, other\)"):
        build(read_group([f"arm={tmp_path / 's'}"]))
