"""Shapes, axes and ticks of the charts."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from midistill_tasks.report import svg


def test_a_canvas_escapes_every_text_it_is_given():
    canvas = svg.Canvas(10, 10, 'a "title" & <more>')
    canvas.text(1, 2, "<script>alert(1)</script>")
    canvas.dot(1.0, 2.0, 3.0, "s0", "<b>tip</b>")
    drawn = str(canvas.render())
    assert "<script" not in drawn
    assert "<b>" not in drawn
    assert ElementTree.fromstring(drawn).get("aria-label") == 'a "title" & <more>'  # noqa: S314 (our own)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.45, 0.9), (-3.2, -1.1), (180, 350), (0, 0.05), (1e-4, 3e-4)])
def test_ticks_are_round_lie_inside_and_their_labels_are_their_values(low, high):
    ticks = svg.nice_ticks(low, high)
    assert 2 <= len(ticks) <= 12
    for value, label in ticks:
        assert low - 1e-9 <= value <= high + 1e-9
        assert float(label.replace("−", "-")) == pytest.approx(value, abs=1e-12)


def test_logarithmic_ticks_lie_inside_and_say_their_value():
    ticks = svg.log_ticks(0.3, 7000)
    assert [value for value, _ in ticks][:4] == [0.5, 1, 2, 5]
    assert all(float(label.replace(",", "")) == pytest.approx(value) for value, label in ticks)
    assert ticks[-1] == (5000, "5,000")


def test_a_logarithmic_scale_holds_zero_at_its_edge():
    scale = svg.logarithmic(0.001, 1, 0, 300)
    assert [scale(value) for value in (0.001, 0.01, 1)] == pytest.approx([0, 100, 300])
    assert scale(0.0) == scale(0.001)
