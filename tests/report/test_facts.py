"""What was evaluated, when, on which texts: below the title."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from made_page import Tags

from midistill_tasks import __version__
from midistill_tasks.report.build import build, write
from midistill_tasks.report.facts import long
from midistill_tasks.results.roles import Trained, read_group

FILES = {"members": "mine.jsonl", "nonmembers": {"path": "org/x", "split": "test"}}


def test_a_page_says_dates_models_texts_their_hash_and_the_version(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(1), 60, 2.0)
    for day in (2, 5):
        date, name = f"2026-01-0{day}T03-04-05.678901", f"m{day}"
        write_output(tmp_path / name, labels, {"loss": scores}, f"org/{name}", date=date, options=FILES)
    made = build(read_group([tmp_path]))
    said = dict(made.facts)
    assert said["Evaluated"] == "2026-01-02 to 2026-01-05"
    assert said["Models"] == "m2 (org/m2); m5 (org/m5)"
    assert said["Texts of made"].startswith(
        '30 members and 30 non-members, from members mine.jsonl, non-members {"path": "org/x", "split": "test"}; data '
    )
    assert len(said["Texts of made"].rpartition("SHA-256 ")[2]) == 64
    assert said["midistill"].endswith(__version__)
    page = write(made, tmp_path / "out")
    assert said["Texts of made"] in Tags(page.read_text()).words
    assert "- Evaluated: 2026-01-02 to 2026-01-05" in (tmp_path / "out" / "report.md").read_text()


def test_models_on_different_texts_have_a_line_for_each_set(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(1), 60, 2.0)
    for n in (40, 60):
        write_output(tmp_path / str(n), labels[:n], {"loss": scores[:n]}, f"m{n}")
    texts = [words for name, words in build(read_group([tmp_path])).facts if name == "Texts of made"]
    assert [words.partition(";")[0] for words in texts] == [
        f"{labels[:n].sum()} members and {n - labels[:n].sum()} non-members" for n in (40, 60)
    ]


def test_many_facts_are_folded_on_screen_and_few_are_not(page, tmp_path):
    assert 'class="about"' not in page.read_text()
    assert not long([("Models", "x")])
    assert long([("Models", "x" * 1000)])


def test_what_an_arm_s_weights_guarantee_stands_among_the_facts(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(1), 60, 2.0)
    write_output(tmp_path / "m", labels, {"loss": scores}, "m")
    students = {"0": Trained(guarantee="(8, 1e-05)-DP for <each>"), "1": Trained(guarantee="(8, 1e-05)-DP for <each>")}
    group = replace(read_group([tmp_path]), trained={"dp": students, "vanilla": {"0": Trained()}})
    made = build(group)
    assert [fact for fact in made.facts if fact[0].startswith("Guarantee")] == [
        ("Guarantee of dp", "(8, 1e-05)-DP for <each>")
    ]
    assert "DP for &lt;each&gt;" in write(made, tmp_path / "out").read_text()
