"""What a run says below its table, and its exit status."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from midistill_tasks.harness.hooks.ending import add_last_words
from midistill_tasks.results import missing


@pytest.fixture
def ran(monkeypatch):
    """``ran(loss="", ref="no reference")``: the command after these tasks, with why each has no figure."""

    def ran(**tasks):
        monkeypatch.setattr(missing, "_why", {})

        class Run:
            @staticmethod
            def _execute(args):
                for name, why in tasks.items():
                    missing.note(name, not why, {why: 3} if why else {})

        command = SimpleNamespace(Run=Run)
        add_last_words(command)
        command.Run._execute(None)

    return ran


def test_what_is_missing_is_said_once_a_reason(ran, capsys):
    ran(loss="", ref="needs a reference", ez="needs a reference", recall="no room")
    assert capsys.readouterr().err.splitlines() == [
        "midistill: no figures of ref, ez: needs a reference",
        "midistill: no figures of recall: no room",
    ]


def test_a_run_with_all_figures_and_one_without_our_tasks_say_nothing(ran, capsys):
    ran(loss="")
    ran()
    assert capsys.readouterr().err == ""


def test_without_any_figure_the_status_is_1(ran):
    with pytest.raises(SystemExit) as stopped:
        ran(loss="no room", recall="no room")
    assert stopped.value.code == 1
