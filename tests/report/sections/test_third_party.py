"""A section of another package stands on the page where it says: one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_package import install, run_with
from made_page import Tags

SOURCE = """
from midistill_tasks import Findings, Section, Table, section


@section(after="curves")
def calibration(findings: Findings) -> Section | None:
    rows = tuple((entry.name, len(entry.runs)) for _, entry in findings.entries)
    table = findings.of_split(Table("calibration", "How calibrated each model is", ("model", "runs"), rows))
    return Section(f"Calibration on {findings.split}", text=("As a third party sees it.",), tables=((table, ""),))


@section(after="calibration")
def nothing(findings: Findings) -> Section | None:
    return None


@section(after="provenance", per="page")
def colophon(findings: Findings) -> Section | None:
    return Section("Colophon", text=(f"{len(findings.group.entries)} entries, {findings.settings.utility}.",))
"""
REPORT = "import sys\nfrom midistill_tasks.cli.main import main\nsys.exit(main(['report', *sys.argv[1:]]))"


def test_it_stands_on_the_page_after_the_section_it_names_with_its_table(study, page, tmp_path):
    install(tmp_path / "site", "my_section", SOURCE, "midistill.sections")
    out = tmp_path / "out"

    done = run_with(tmp_path / "site", REPORT, str(study), "--output", str(out))

    assert done.returncode == 0, done.stderr[-3000:]
    words = Tags((out / "index.html").read_text()).words
    in_order = ("more closely: ", "Calibration on made", "Which texts: ", "Where these figures come from", "Colophon")
    places = [words.index(heading) for heading in in_order]
    assert places == sorted(places)
    assert "5 entries" not in words
    assert "3 entries, None." in words
    assert (out / "calibration-made.csv").read_text() == "model,runs\nteacher,1\nvanilla,2\nnonorm,2\n"
    ours = {path.name for path in page.parent.iterdir()}
    assert {path.name for path in out.iterdir()} == ours | {"calibration-made.csv"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SOURCE.replace('after="curves"', 'after="curvs"'), "there is no section 'curvs' (did you mean 'curves'?)"),
        (SOURCE.replace('after="curves"', 'after="nothing"'), "calibration, nothing follow each other in a circle"),
    ],
)
def test_a_section_without_a_place_is_refused_by_name(study, tmp_path, source, said):
    install(tmp_path / "site", "my_section", source, "midistill.sections")
    done = run_with(tmp_path / "site", REPORT, str(study), "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert said in done.stderr


def test_without_other_packages_the_page_has_the_built_in_order(page: Path):
    words = Tags(page.read_text()).words
    headings = (
        *("How well each attack works", "Interventions and their controls", "Privacy and utility together"),
        *("more closely: ", "Which texts: ", "The most exposed texts", "a lower bound: ", "Ensembles of students"),
        "Where these figures come from",
    )
    places = [words.index(heading) for heading in headings]
    assert places == sorted(places)
