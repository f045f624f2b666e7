"""report.json: everything that the page says, numbers as numbers, in the shape that the schema promises."""

from __future__ import annotations

import json

import pytest

from midistill_tasks.cli.main import main
from midistill_tasks.errors import InputError
from midistill_tasks.report.machine import Report, read_report
from midistill_tasks.results.reader import read_run


@pytest.fixture(scope="module")
def folder(study, tmp_path_factory):
    """With a page and its report.json."""
    folder = tmp_path_factory.mktemp("machine")
    assert main(["report", str(study), "--output", str(folder), "--json"]) == 0
    return folder


def test_the_file_is_strict_json_of_the_schema(folder):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    content = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    schema = Report.model_json_schema()
    assert set(content) == set(schema["properties"])
    assert content["schema_version"] == 1


def test_the_figures_are_the_runs_under_the_harness_names(folder, study):
    report = read_report(folder)
    teacher = report.models[0]
    run = read_run(study / "results" / "teacher")
    assert (teacher.name, teacher.role) == ("teacher", "teacher")
    assert {model.role for model in report.models[1:]} == {"student"}
    figures = {attack.attack: attack for attack in teacher.runs[0].attacks}
    for result in run.tasks.values():
        found = figures[result.attack]
        assert found.members == result.labels.sum()
        for name, estimate in result.measured.items():
            limits = result.intervals[name]
            expected = (estimate.value, estimate.stderr, limits.lower, limits.upper)
            got = found.figures[name]
            for mine, theirs in zip((got.value, got.stderr, got.lower, got.upper), expected, strict=True):
                assert mine == (None if theirs != theirs else pytest.approx(theirs))


def test_words_and_tables_of_the_page_are_in_it(folder):
    report = read_report(folder / "report.json")
    page = (folder / "report.md").read_text()
    assert report.lead in page.replace("&#42;", "*")
    assert [answer.word for answer in report.answers] == ["leaks less, still leaks", "safer"]
    assert report.next
    tables = {table.name: table for table in report.tables}
    for name, table in tables.items():
        header = (folder / f"{name}.csv").read_text().splitlines()[0]
        assert header.split(",")[0] == table.columns[0]
    column = tables["figures-made"].columns.index("auroc")
    assert isinstance(tables["figures-made"].rows[0][column].value, float)


def test_one_of_an_earlier_page_is_written_again_with_the_page(study, tmp_path):
    one, other = (str(study / "results" / name) for name in ("teacher", "nonorm0"))
    assert main(["report", one, "--output", str(tmp_path)]) == 0
    assert not (tmp_path / "report.json").exists()
    assert main(["report", one, "--output", str(tmp_path), "--json"]) == 0
    earlier = read_report(tmp_path)
    assert main(["report", other, "--output", str(tmp_path)]) == 0
    assert read_report(tmp_path).title != earlier.title
    assert read_report(tmp_path).lead in (tmp_path / "report.md").read_text().replace("&#42;", "*")


def test_another_file_and_a_later_version_are_refused(folder, tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other.json is no report.json"):
        read_report(tmp_path / "other.json")
    later = json.loads((folder / "report.json").read_text()) | {"schema_version": 2}
    (tmp_path / "later.json").write_text(json.dumps(later))
    with pytest.raises(InputError, match="has schema_version 2, this midistill reads 1: update"):
        read_report(tmp_path / "later.json")


def test_the_schemas_are_printed(capsys):
    assert main(["schema"]) == 0
    everything = json.loads(capsys.readouterr().out)
    assert set(everything) == {"schema_version", "metadata", "sample", "report"}
    assert main(["schema", "sample"]) == 0
    assert json.loads(capsys.readouterr().out) == everything["sample"]
