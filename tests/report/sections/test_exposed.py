"""The most exposed texts, hidden unless asked for."""

from __future__ import annotations

import re

import numpy as np
from made_page import Tags

from midistill_tasks.report.build import build, write
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group


def test_texts_are_masked_unless_asked_for_and_escaped_when_shown(study, page, tmp_path):
    assert "owned" not in page.read_text()
    assert "xxxxxx" in page.read_text()
    shown = write(build(read_group([study]), show_texts=True), tmp_path)
    assert "script" not in Tags(shown.read_text()).tags
    assert "owned" in Tags(shown.read_text()).words
    assert "<script" not in (tmp_path / "report.md").read_text()


def test_beside_where_a_member_is_also_found_stands_how_many_of_all_are(study, page):
    words = Tags(page.read_text()).words
    runs = [read_run(study / "results" / f"nonorm{seed}") for seed in (0, 1)]
    votes = np.sum([task.decisions for run in runs for task in run.tasks.values()], axis=0)
    labels = runs[0].tasks["mia_loss_made"].labels
    share = np.mean(votes[labels] * 2 >= 4)
    assert re.search(rf"of all members these are \d+% in vanilla, {share:.0%} in nonorm\.", words)
