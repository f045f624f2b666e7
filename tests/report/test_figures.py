from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from midistill_tasks.compare.curves import roc_curve
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.metrics.roc import tpr_at_fpr
from midistill_tasks.report import svg
from midistill_tasks.report.figures import Dot, Trade, auroc_figure, distribution_figure, roc_figure, trade_figure


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


def test_a_curve_is_the_tpr_at_each_fpr_and_its_band_contains_it(make_task, draw):
    labels, scores = draw(np.random.default_rng(0), 200)
    curve = roc_curve("a", [make_task(labels, scores)])
    assert curve.fpr[0] == pytest.approx(1 / 100)
    assert (curve.fpr[-1], curve.tpr[-1]) == (1, 1)
    for rate, value in zip(curve.fpr[:-1], curve.tpr[:-1], strict=True):
        assert value == tpr_at_fpr(labels, scores, float(rate))
    assert (curve.lower <= curve.tpr).mean() > 0.9
    assert (curve.tpr <= curve.upper).mean() > 0.9
    assert np.mean(curve.upper - curve.lower) > 0.05


def test_the_curve_of_several_students_is_their_mean(make_task, draw):
    labels, scores = draw(np.random.default_rng(0), 100)
    tasks = [make_task(labels, scores), make_task(labels, -scores)]
    mean = roc_curve("arm", tasks)
    first, second = (roc_curve("one", [task]) for task in tasks)
    assert mean.tpr == pytest.approx((first.tpr + second.tpr) / 2)
    assert mean.auroc == pytest.approx(0.5)


def test_a_histogram_counts_every_text_also_beyond_its_axis():
    drawn = str(distribution_figure(np.array([-9.0, 0.0, 9.0]), np.array([0.5]), "m", (-1.0, 1.0)))
    polygon = re.search(r'class="members" points="([^"]*)"', drawn)
    assert polygon is not None
    heights = [float(pair.split(",")[1]) for pair in polygon[1].split()[:-2:2]]
    assert len({height for height in heights if height < 165}) == 1  # a third in the first, the middle, the last bin
    assert sum(height < 165 for height in heights) == 3


def test_charts_of_undefined_figures_hold_no_nan():
    nan = math.nan
    dots = [("loss", [Dot("m", 0, Interval(0.6, nan, nan))])]
    trades = [Trade("m", 0, Estimate(0.1, nan), Estimate(20.0, nan), True)]
    for drawn in (auroc_figure(dots, Estimate(nan, nan)), trade_figure(trades, "perplexity")):
        assert "nan" not in str(drawn)
        ElementTree.fromstring(str(drawn))  # noqa: S314 (our own)


def test_a_tiny_split_still_has_a_curve(make_task):
    curve = roc_curve("a", [make_task([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0])])
    assert "nan" not in str(roc_figure([(0, curve)], "loss"))
