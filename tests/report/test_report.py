from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.metrics.roc import auroc, delong_paired
from midistill_tasks.report.build import build, write
from midistill_tasks.results.reader import read_run
from midistill_tasks.results.roles import read_group
from midistill_tasks.results.run import Utility
from midistill_tasks.results.utility import with_error

EVIL = '<script>document.title="owned"</script> & "quotes" | `ticks`'


class Tags(HTMLParser):
    """The tags of a page, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words += data


@pytest.fixture(scope="module")
def study(tmp_path_factory, write_output, draw):
    """A study's folder: a teacher that leaks, two arms with two seeds each, a failed arm, one text with a script."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    labels, base = draw(rng, 240, 0.0)

    def model(name: str, shift: float, perplexity: float) -> str:
        scores = {a: base + rng.normal(size=240) * 0.2 + shift * labels * k for k, a in ((1, "loss"), (1.2, "mink"))}
        utility = {"heldout_made": {"word_perplexity": (perplexity, "N/A", False)}}
        path = write_output(
            folder / "results" / name, labels, scores, f"models/{name}", utility=utility, text=lambda _: EVIL
        )
        return str(path.parent.relative_to(folder))

    arms = {
        arm: {str(seed): model(f"{arm}{seed}", shift, perplexity + seed) for seed in (0, 1)}
        for arm, shift, perplexity in (("vanilla", 0.9, 30.0), ("nonorm", 0.1, 50.0))
    }
    manifest = {
        "teacher": model("teacher", 1.5, 20.0),
        "arms": arms,
        "controls": {"nonorm": "vanilla"},
        "failed": ["bottleneck, seed 0: no space left"],
    }
    (folder / "study.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return write(build(read_group([study])), tmp_path_factory.mktemp("report"))


def test_the_first_paragraph_counts_the_verdicts_and_the_failed_arm_is_named(page):
    words = Tags(page.read_text()).words
    assert "Of 2 comparisons with teacher: 1 safer (nonorm), 1 undecided (vanilla)." in words
    assert "Interventions against their controls: 1 undecided (nonorm)." in words
    assert "bottleneck, seed 0: no space left" in words
    assert "A weaker model leaks less" in words


def test_every_part_is_there_and_nothing_is_fetched(page):
    found = Tags(page.read_text())
    parts = ("How well each attack works", "Privacy and utility", "more closely", "Which texts", "most exposed")
    for heading in (
        *parts,
        "Interventions and their controls",
        "Ensembles of students",
        "Where these figures come from",
    ):
        assert heading in found.words
    assert found.tags.count("svg") == 3 + 3 + 2  # intervals, trade, ROC; a histogram a model; matrices an arm
    assert not {"script", "img", "iframe", "object"} & set(found.tags)
    sources = [value for name, value in found.attributes if name in ("src", "href", "xlink:href")]
    assert sources == ["data:,"]
    assert "http" not in page.read_text().replace("http://www.w3.org", "")


def test_texts_are_masked_unless_asked_for_and_escaped_when_shown(study, page, tmp_path):
    assert "owned" not in page.read_text()
    assert "xxxxxx" in page.read_text()
    shown = write(build(read_group([study]), show_texts=True), tmp_path)
    assert "script" not in Tags(shown.read_text()).tags
    assert "owned" in Tags(shown.read_text()).words
    assert "<script" not in (tmp_path / "report.md").read_text()


ARMS = ("vanilla", "nonorm")


def test_an_intervention_is_held_against_its_control_seed_by_seed(study, page):
    with (page.parent / "controls-made.csv").open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    runs = {arm: [read_run(study / "results" / f"{arm}{seed}").on("made") for seed in (0, 1)] for arm in ARMS}
    areas = {
        arm: {name: np.mean([run[name].measured["auroc"].value for run in pair]) for name in pair[0]}
        for arm, pair in runs.items()
    }
    leaks = {arm: max(abs(value - 0.5) for value in found.values()) for arm, found in areas.items()}
    value, lower, upper = (float(row[f"reduction of the leak{end}"]) for end in ("", "_lower", "_upper"))
    assert value == pytest.approx(leaks["vanilla"] - leaks["nonorm"])
    of_texts = np.mean(
        [
            delong_paired(a["loss"].labels, a["loss"].scores, b["loss"].scores).se
            for a, b in zip(runs["vanilla"], runs["nonorm"], strict=True)
        ]
    )
    assert lower < value - 1.96 * of_texts, "it covers other texts, not these same ones alone"
    assert upper > value + 1.96 * of_texts
    assert (row["arm"], row["control"], row["seeds"]) == ("nonorm", "vanilla", "2")


def test_beside_where_a_member_is_also_found_stands_how_many_of_all_are(study, page):
    words = Tags(page.read_text()).words
    runs = [read_run(study / "results" / f"nonorm{seed}") for seed in (0, 1)]
    votes = np.sum([task.decisions for run in runs for task in run.tasks.values()], axis=0)
    labels = runs[0].tasks["mia_loss_made"].labels
    share = np.mean(votes[labels] * 2 >= 4)
    assert re.search(rf"of all members these are \d+% in vanilla, {share:.0%} in nonorm\.", words)


def test_csv_rows_are_as_wide_as_their_header(page):
    files = sorted(page.parent.glob("*.csv"))
    assert len(files) >= 10
    for path in files:
        with path.open(newline="") as lines:
            widths = {len(row) for row in csv.reader(lines)}
        assert len(widths) == 1, path.name


def test_the_figures_in_the_csv_are_those_of_the_samples(study, page):
    run = read_run(study / "results" / "teacher")
    with (page.parent / "figures-made.csv").open(newline="") as lines:
        row = next(row for row in csv.DictReader(lines) if row["model"] == "teacher" and row["attack"] == "loss")
    assert float(row["AUROC"]) == pytest.approx(run.tasks["mia_loss_made"].measured["auroc"].value)


def test_one_model_alone_gives_a_page(write_output, draw, tmp_path, capsys):
    labels, scores = draw(np.random.default_rng(1), 200, 2.0)
    write_output(tmp_path / "results" / "m", labels, {"loss": scores}, "org/some-model")
    assert main(["report", str(tmp_path / "results"), "--output", str(tmp_path / "out")]) == 0
    words = Tags((tmp_path / "out" / "index.html").read_text()).words
    assert "Members of some-model can be told from non-members" in words
    assert "share no perplexity" in words
    assert str(tmp_path / "out" / "index.html") in capsys.readouterr().out


def test_a_model_that_leaks_nothing_is_said_to_leak_nothing(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(2), 400, 0.0)
    write_output(tmp_path / "m", labels, {"loss": scores})
    page = build(read_group([tmp_path]))
    assert page.statements[0].word == "no leak found"


def test_texts_without_a_score_or_without_words_leave_no_hole(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(9), 200, 1.0)
    gaps = scores.copy()
    gaps[::7] = np.nan
    write_output(tmp_path / "t", labels, {"loss": scores, "mink": gaps}, "t", text=None)
    write_output(tmp_path / "s", labels, {"loss": gaps, "mink": scores}, "s", text=None)
    page = write(build(read_group([tmp_path], "t"), show_texts=True), tmp_path / "out")
    words = Tags(page.read_text()).words
    assert "(the run kept no texts)" in words
    assert "Up to 29 of these texts have no score under an attack and do not count there." in words
    assert "nan" not in words


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
    assert build(read_group([tmp_path])).warnings[0].endswith("differ, here by chance: coins chose them.")


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


def test_fifty_models_fit_on_one_page(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60, 1.0)
    for number in range(50):
        attacks = {"loss": scores + number, "ref": np.full(60, np.nan)}
        write_output(tmp_path / "r" / f"m{number}", labels, attacks, f"org/m{number}")
    for teacher in (None, "m7"):
        warnings = build(read_group([tmp_path / "r"], teacher)).warnings
        assert len([warning for warning in warnings if "mia_ref_made" in warning]) == 1
    page = write(build(read_group([tmp_path / "r"], teacher="m7")), tmp_path / "out")
    words = Tags(page.read_text()).words
    assert "m7 and 49 others" in words
    assert "42 others" in words


def test_a_student_without_the_teacher_s_strongest_attack_gives_a_page(write_output, draw, tmp_path):
    rng = np.random.default_rng(5)
    labels, scores = draw(rng, 60)
    write_output(tmp_path / "t", labels, {"loss": scores, "mink": scores + 3 * labels}, "org/t")
    write_output(tmp_path / "s", labels, {"loss": scores + rng.normal(size=60)}, "org/s")
    page = build(read_group([tmp_path], "t"))
    assert any("mink is left out: it ran on t only" in warning for warning in page.warnings)


def test_models_on_different_texts_are_refused_beside_a_teacher_and_warned_of_without_one(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(7), 100)
    write_output(tmp_path / "t", labels, {"loss": scores}, "t")
    write_output(tmp_path / "s", labels[:80], {"loss": scores[:80]}, "s")
    with pytest.raises(InputError, match="100 texts and s on 80"):
        build(read_group([tmp_path], "t"))
    assert any("different texts" in warning for warning in build(read_group([tmp_path])).warnings)


def test_the_error_of_a_perplexity_is_that_of_a_ratio(write_output, draw, tmp_path):
    """Against the jackknife, leaving out one document at a time in a plain loop."""
    labels, scores = draw(np.random.default_rng(8), 40)
    run = read_run(write_output(tmp_path, labels, {"loss": scores}))
    rng = np.random.default_rng(0)
    words = rng.integers(20, 60, size=50)
    likelihood = -words * rng.normal(3.0, 0.2, size=50)
    rows = [json.dumps({"word_perplexity": [float(a), int(b)]}) for a, b in zip(likelihood, words, strict=True)]
    (tmp_path / f"samples_ppl_{run.date}.jsonl").write_text("\n".join(rows) + "\n")
    value = float(np.exp(-likelihood.sum() / words.sum()))
    found = with_error(run, Utility("ppl", "word_perplexity", value, float("nan"), False))
    left_out = []
    for number in range(50):
        rest = [n for n in range(50) if n != number]
        left_out.append(float(np.exp(-sum(likelihood[n] for n in rest) / sum(words[n] for n in rest))))
    jackknife = float(np.sqrt(49 / 50 * sum((one - np.mean(left_out)) ** 2 for one in left_out)))
    assert found.stderr == pytest.approx(jackknife, rel=0.02)


def test_a_model_without_a_usable_score_does_not_end_the_page_of_the_others(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 60)
    write_output(tmp_path / "good", labels, {"loss": scores}, "good")
    write_output(tmp_path / "broken", labels, {"loss": np.full(60, np.nan)}, "broken")
    page = build(read_group([tmp_path]))
    assert page.title == "Membership audit: good"
    assert "mia_loss_made: the scores are NaN" in page.warnings[0]
    with pytest.raises(InputError, match="no MIA task has enough scores"):
        read_group([tmp_path / "broken"])


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


def test_students_of_one_arm_on_different_texts_are_warned_of(write_output, draw, tmp_path):
    labels, scores = draw(np.random.default_rng(4), 80)
    for n in (60, 80):
        write_output(tmp_path / str(n), labels[:n], {"loss": scores[:n]}, "s")
    page = build(read_group([f"arm={tmp_path / '60'}", f"arm={tmp_path / '80'}"]))
    assert any("different texts" in warning for warning in page.warnings)


def test_an_intervention_is_not_called_safer_where_words_tell_as_much(study, tmp_path):
    shutil.copytree(study, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("results_*.json"):
        content = json.loads(path.read_text())
        for row in content["results"].values():
            if "blind_auroc,none" in row:
                row |= {"blind_auroc,none": 0.97, "blind_auroc_stderr,none": 0.02}
        path.write_text(json.dumps(content))
    assert "Interventions against their controls: 1 undecided (nonorm)" in build(read_group([tmp_path / "copy"])).lead


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine: the page is not tested in a real browser")
    return found


def test_a_real_browser_draws_every_figure_and_logs_no_error(page, tmp_path):
    text = page.read_text()
    # Asks the browser itself, after layout, for the size of every chart.
    probe = (
        "<script>addEventListener('load',()=>{document.title='sizes '+[...document.querySelectorAll('svg')]"
        ".map(s=>{const b=s.getBoundingClientRect();return Math.round(b.width)+'x'+Math.round(b.height)}).join(' ')"
        "+' overflow '+(document.documentElement.scrollWidth>innerWidth)})</script></body>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", probe))
    names = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "enable-logging=stderr"]
    names += ["disable-background-networking", "disable-component-update", "disable-sync", "window-size=900,1200"]
    names += [f"user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [chromium(), *(f"--{name}" for name in names), "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    sizes, overflow = title.removeprefix("sizes ").split(" overflow ")
    boxes = [tuple(map(int, size.split("x"))) for size in sizes.split()]
    assert len(boxes) == 8
    assert all(width > 200 and height > 100 for width, height in boxes)
    assert overflow == "false"
    assert "CONSOLE" not in done.stderr
