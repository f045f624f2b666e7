"""What does not hold among all answers of a page is said first, and not claimed before it is taken back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midistill_tasks.compare.family import settled, settled_alone
from midistill_tasks.compare.frontier.against import Against
from midistill_tasks.compare.pairs import compare
from midistill_tasks.compare.verdict import alone
from midistill_tasks.compare.wording import against_frontier
from midistill_tasks.metrics.estimate import Interval


def test_an_answer_that_is_lost_among_the_others_does_not_begin_with_its_claim(make_task, make_run, draw) -> None:
    labels, scores = draw(np.random.default_rng(0), 400, 2.0)
    null = np.random.default_rng(1).normal(size=400)
    teacher, student = (make_run(name, make_task(labels, each)) for name, each in (("t", scores), ("s", null)))
    (found,) = compare(teacher, {"arm": [student]})
    assert found.verdict.sentence.startswith("Safer: ")
    lost = replace(found, verdict=found.verdict._replace(p=0.04))
    reduction = Interval(0.05, 0.01, 0.09)
    beside = Against("made", "arm", 1, "stopped", reduction, "leaks less", 0.04, 5.0, "")
    beside = beside._replace(sentence=against_frontier("arm", "leaks less", reduction))

    (compared,), _, (against,) = settled([lost], [], [beside])

    assert (compared.verdict.word, against.word) == ("undecided", "undecided")
    among = "Undecided among the 2 answers of this page: alone it would be "
    assert compared.verdict.sentence.startswith(f"{among}'safer' (p 0.040)")
    assert "Safer:" not in compared.verdict.sentence
    assert compared.verdict.sentence.endswith(found.verdict.sentence.partition(". ")[2])
    assert against.sentence.startswith(
        "Undecided whether arm leaks less than a vanilla student of its perplexity: 0.050"
    )
    assert f"{among}'leaks less'" in against.sentence


def test_neither_does_that_on_a_model_alone(make_task, draw) -> None:
    labels, scores = draw(np.random.default_rng(0), 400, 2.0)
    one = alone("m", [{"loss": make_task(labels, scores)}])
    assert one.word == "leaks"
    kept, lost = settled_alone([one, one._replace(p=0.06)])
    assert kept == one
    assert (lost.word, lost.opening) == ("undecided", "")
    assert lost.sentence.startswith("Undecided among the 2 answers of this page: alone it would be 'leaks'")
    assert "Yes" not in lost.sentence
    assert lost.sentence.endswith(one.sentence.partition(". ")[2])
