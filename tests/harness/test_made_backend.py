"""Any backend that keeps the protocol serves the tasks; what it does not give costs no other task its figure."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_backend import BareLM, TableLM, figures, requests

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.scoring.protocol import Job, scorer_of
from midistill_tasks.scoring.requests import REQUEST_TYPE, ViewRequest
from midistill_tasks.views import TEXT, Unscored

ALL = ",".join(f"mia_{attack}_files" for attack, kind in ATTACKS.items() if not (kind.needs_reference or kind.requires))


def scores(result: dict[str, Any], attack: str) -> dict[str, float]:
    return {row["doc"]["text"]: row["doc"]["score"] for row in result["samples"][f"mia_{attack}_files"]}


def test_all_attacks_have_figures_on_a_table(run, people):
    lm = TableLM(remembers=people[0])
    result = run(ALL, model=lm)
    for attack in ("loss", "zlib", "mink", "minkpp"):
        assert result["results"][f"mia_{attack}_files"]["auroc,none"] > 0.9
    for text, score in scores(result, "loss").items():
        job = Job(lm.tok_encode(text))
        expected = figures(job, job.ids in lm.remembers)["logprob"]
        assert score == pytest.approx(float(expected.mean()), rel=1e-5)
    # Each text alone, after the shots of either side, in lower case and with words swapped (some of these are one).
    assert 4 * 48 < len(lm.scored) == len(set(lm.scored)) <= 9 * 48


def test_the_reference_is_another_model_of_the_same_kind(run, people, monkeypatch):
    monkeypatch.setattr("midistill_tasks.harness.requests.check_reference", lambda reference: None)
    result = run("mia_loss_files,mia_ref_files", {"reference": "another"}, model=TableLM(remembers=people[0]))
    given = scores(result, "ref")
    assert {score for text, score in given.items() if text not in people[0]} == {0.0}  # both models are one table
    assert all(given[text] > 0 for text in people[0])


def test_a_reference_with_the_target_s_figures_is_refused_and_the_other_attacks_have_theirs(run, said, monkeypatch):
    monkeypatch.setattr("midistill_tasks.harness.requests.check_reference", lambda reference: None)
    result = run("mia_loss_files,mia_ref_files", {"reference": "another"}, model=TableLM())
    assert "auroc,none" not in result["results"].get("mia_ref_files", {})
    assert "auroc,none" in result["results"]["mia_loss_files"]
    assert len(said("no figures of ref: the reference model")) == 1


def test_without_a_statistic_the_attack_that_needs_it_has_no_figure_and_the_others_have(run, said):
    result = run(ALL, model=BareLM())
    with_figures = [attack for attack in ATTACKS if "auroc,none" in result["results"].get(f"mia_{attack}_files", {})]
    names = [
        "loss",
        "zlib",
        "mink",
        "recall",
        "lowercase",
        "dcpdd",
        "conrecall",
        "pac",
        "camia",
        "combined",
        "strongest",
    ]
    assert with_figures == names
    reason = (
        "the attack 'minkpp' has no figure: it needs moments of each token, which the backend BareLM does not give "
        "(it gives logprob)"
    )
    assert said(reason) == [reason]
    record = result["configs"]["mia_minkpp_files"]["metadata"]["midistill"]
    assert record["unscored_reasons"] == {reason: 48}
    assert all(math.isnan(score) for score in scores(result, "minkpp").values())


def test_what_nobody_can_be_served_with_is_not_scored_at_all(run):
    lm = BareLM()
    run("mia_minkpp_files", model=lm)
    assert lm.scored == []


def test_a_class_of_its_own_is_served_by_the_scorer_of_the_class_that_it_derives_from():
    class Derived(TableLM):
        pass

    answer_requests()
    (answer,) = getattr(Derived(), REQUEST_TYPE)(requests(ViewRequest("some text", TEXT)))
    assert len(answer) == len("some text") - 1
    assert answer.words == "some text"
    assert scorer_of(Derived()).gives == {"logprob", "greedy", "moments"}


def test_a_text_that_is_cut_says_which_words_were_scored():
    lm = TableLM()
    lm.max_length = 5
    (answer,) = getattr(lm, REQUEST_TYPE)(requests(ViewRequest("some text", TEXT)))
    assert (answer.words, answer.n_chars, answer.truncated, len(answer)) == ("some ", 5, True, 4)


def test_figures_that_are_not_finite_are_no_figures(monkeypatch):
    nothing = {"logprob": np.array([np.nan], np.float32), "greedy": None, "mean": None, "std": None}
    monkeypatch.setattr("made_backend.figures", lambda job, remembered: nothing)
    (answer,) = getattr(TableLM(), REQUEST_TYPE)(requests(ViewRequest("ab", TEXT)))
    assert isinstance(answer, Unscored)
    assert "NaN" in answer.reason


def test_neither_attacks_nor_scoring_nor_such_a_backend_need_torch():
    code = (
        "import sys\nfrom made_backend import TableLM, requests\n"
        "from midistill_tasks.attacks import ATTACKS\n"
        "from midistill_tasks.harness.hooks.requests import answer_requests\n"
        "from midistill_tasks.scoring.requests import REQUEST_TYPE, ViewRequest\n"
        "lm = TableLM(['some text'])\n"
        "answer_requests()\n"
        "stats = {}\n"
        "served = [attack for attack in ATTACKS.values() if not (attack.requires or attack.generates)]\n"
        "for view in {view for attack in served for view in attack.views if view.model == 'target'}:\n"
        "    (stats[view.name],) = getattr(lm, REQUEST_TYPE)(requests(ViewRequest('some text', view)))\n"
        "print(*(ATTACKS[name].score(stats, {}) for name in ('loss', 'zlib', 'mink', 'minkpp')))\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1]
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 4
