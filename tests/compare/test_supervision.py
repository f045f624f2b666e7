"""Groups of texts by vulnerability, their figures and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from midistill_tasks.compare.supervision import as_json, by_vulnerability, match, ratio_over_texts
from midistill_tasks.results.run import TextFigures


def figures_of(name: str, loss: float, label: int = 1, tokens: int = 10, hits: int = 5) -> TextFigures:
    return TextFigures(name, name, label, loss, tokens, hits, hits * 0.5, hits * 0.4, hits * 1.0)


def test_the_error_of_a_share_over_tokens_is_that_of_repeated_draws_of_texts():
    draw = np.random.default_rng(0)

    def texts(number: int) -> list[TextFigures]:
        # Texts differ in their rates, so tokens of one text are far from independent.
        rates, lengths = draw.beta(2, 2, number), draw.integers(5, 60, number)
        return [
            figures_of(str(i), 1.0, tokens=int(n), hits=int(draw.binomial(n, p)))
            for i, (p, n) in enumerate(zip(rates, lengths, strict=True))
        ]

    found = [ratio_over_texts(texts(60), lambda text: text.hits, lambda text: text.tokens) for _ in range(400)]
    spread = float(np.std([figure.value for figure in found]))
    assert np.mean([figure.stderr for figure in found]) == pytest.approx(spread, rel=0.1)


def test_texts_of_one_document_count_once():
    twice = [figures_of(str(i), 1.0, hits=i % 5) for i in range(10)]
    same = [TextFigures(**{**text.__dict__, "id": f"{text.id}b"}) for text in twice]
    once = ratio_over_texts(twice, lambda text: text.hits, lambda text: text.tokens)
    assert ratio_over_texts(twice + same, lambda text: text.hits, lambda text: text.tokens) == pytest.approx(once)


def test_matching_finds_the_nearest_partners_and_leaves_out_what_has_none():
    members = [figures_of("a", 1.0), figures_of("b", 2.0), figures_of("c", 0.1)]
    others = [figures_of("x", 1.9, 0), figures_of("y", 1.1, 0), figures_of("z", 5.0, 0)]
    pairs = match(members, others, caliper=0.3)
    assert sorted((one.id, other.id) for one, other in pairs) == [("a", "y"), ("b", "x")]


def test_groups_are_members_found_members_missed_and_non_members():
    texts = [figures_of(str(i), 1 + i / 10, int(i < 6)) for i in range(12)]
    table = by_vulnerability(texts, {"loss": {"0", "1", "8"}})["loss"]
    assert {name: one.texts for name, one in table.items()} == {
        "vulnerable members": 2,  # 8 is called a member, but is none
        "other members": 4,
        "non-members": 6,
        "vulnerable, matched": 0,
        "non-members, matched": 0,
    }
    assert math.isnan(table["vulnerable, matched"].teacher_hits.value)


def test_what_is_stored_names_value_and_error(tmp_path):
    texts = [figures_of(str(i), 1 + i / 10, int(i < 6)) for i in range(12)]
    stored = as_json(by_vulnerability(texts, {"loss": {"0", "1"}}))["loss"]["other members"]
    assert list(stored) == ["texts", "teacher_loss", "teacher_hits", "teacher_p", "student_p", "student_entropy"]
    assert stored["teacher_hits"] == {"value": 0.5, "stderr": 0.0}
