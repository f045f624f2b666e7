"""Names that users' programs import from where they stood before."""

from __future__ import annotations

from made_results import draw, make_run, make_task, write_output  # noqa: F401 (fixtures)


def test_a_page_can_be_built_by_the_names_of_the_guide(write_output, tmp_path):  # noqa: F811
    from midistill_tasks.audit.entries import read_group
    from midistill_tasks.audit.report import build, write

    write_output(tmp_path / "results" / "m", [1, 0] * 40, {"loss": range(80)}, "org/pythia-160m")
    write_output(tmp_path / "results" / "s", [1, 0] * 40, {"loss": range(80, 0, -1)}, "org/student")
    page = build(read_group([tmp_path / "results"], teacher="pythia-160m"))
    assert "Of 1 comparison with pythia-160m" in page.lead
    assert write(page, tmp_path / "report") == tmp_path / "report" / "index.html"
    assert (tmp_path / "report" / "report.md").is_file()


def test_a_run_can_be_handed_to_privacy_meter(make_run, make_task):  # noqa: F811
    from midistill_tasks.audit.meter import metric_results

    (result,) = metric_results(make_run("m", make_task([1, 0] * 20, range(40)))).values()
    assert result.true_labels == [1, 0] * 20
    assert result.signal_values == [-score for score in range(40)]
