"""Charts of the sections, at the edges of what they may be given."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
from made_page import Tags

from midistill_tasks.compare.curves import roc_curve
from midistill_tasks.metrics.estimate import Estimate, Interval
from midistill_tasks.report.build import build, write
from midistill_tasks.report.sections.curves import histogram, roc_chart
from midistill_tasks.report.sections.overview import Dot, auroc_chart
from midistill_tasks.report.sections.trade import Trade, trade_chart
from midistill_tasks.results.roles import read_group


def test_a_histogram_counts_every_text_also_beyond_its_axis():
    drawn = str(histogram(np.array([-9.0, 0.0, 9.0]), np.array([0.5]), "m", (-1.0, 1.0)))
    polygon = re.search(r'class="members" points="([^"]*)"', drawn)
    assert polygon is not None
    heights = [float(pair.split(",")[1]) for pair in polygon[1].split()[:-2:2]]
    assert len({height for height in heights if height < 165}) == 1  # a third in the first, the middle, the last bin
    assert sum(height < 165 for height in heights) == 3


def test_charts_of_undefined_figures_hold_no_nan():
    nan = math.nan
    dots = [("loss", [Dot("m", 0, Interval(0.6, nan, nan))])]
    trades = [Trade("m", 0, Estimate(0.1, nan), Estimate(20.0, nan), True)]
    for drawn in (auroc_chart(dots, Estimate(nan, nan)), trade_chart(trades, "perplexity")):
        assert "nan" not in str(drawn)
        ElementTree.fromstring(str(drawn))  # noqa: S314 (our own)


def test_a_tiny_split_still_has_a_curve(make_task):
    curve = roc_curve("a", [make_task([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0])])
    assert "nan" not in str(roc_chart([(0, curve)], "loss"))


def test_a_lone_dot_is_a_sentence_and_no_chart(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(1), 200, 2.0)
    utility = {"heldout_made": {"word_perplexity": (20.0, 0.5, False)}}
    write_output(tmp_path / "m", labels, {"loss": scores}, "org/m", utility=utility)
    page = write(build(read_group([tmp_path])), tmp_path / "out")
    found = Tags(page.read_text())
    assert found.tags.count("svg") == 2  # the curve and the histogram, which are many points
    assert "m: leak of the strongest attack, |AUROC − 0.5|, 0.4" in found.words
    assert "word perplexity (lower = a better model) 20.000 ± 0.500. One model has no trade" in found.words
    assert "AUROC of loss on m: 0.9" in found.words
    assert "of the blind baseline: 0.500 [0.402, 0.598]." in found.words
