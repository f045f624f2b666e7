"""Units in their order, whatever executor has them: what fails, what waits for it, and what was not written."""

from __future__ import annotations

import re

import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.study.executors import Executor, child, drive, forks, make_executor
from midistill_tasks.study.executors.local import Local
from midistill_tasks.study.executors.resources import Need, Resources
from midistill_tasks.study.executors.unit import Unit
from midistill_tasks.study.work import Work


class Made(Executor):
    """Does nothing but write what a unit is to write, unless it is to fail or to forget it."""

    def __init__(self, fail=(), forget=(), orders=False):
        self.fail, self.forget, self.all_at_once = fail, forget, orders
        self.running, self.began, self.stopped = [], [], False

    def orders(self):
        return self.all_at_once

    def start(self, units):
        self.running += units
        self.began.append([unit.name for unit in units])

    def ended(self):
        assert self.running, "nothing runs: what would end?"
        unit = self.running.pop(0)
        if unit.name in self.fail:
            unit.log.write_text("failed: x, train: no such token\n")
            return [(unit, "exit status 1")]
        for path in () if unit.name in self.forget else unit.writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        return [(unit, "")]

    def stop(self):
        self.stopped = True


@pytest.fixture
def work(studies):
    arms = {"vanilla": {}, "kept": {"non_vulnerable": True}, "nonorm": {"nonorm": True}}
    return Work(studies(50, 36)(arms=arms))


def test_units_start_together_when_what_they_wait_for_is_done(work):
    executor = Made()
    assert drive.drive(executor, work, work.parts, ["r"]) == {}
    assert executor.began == [["teacher:teacher"], ["evaluate:teacher", "vanilla/0", "nonorm/0"], ["kept/0"]]
    assert not executor.stopped
    assert drive.drive(Made(), work, [], ["r"]) == {}


def test_a_student_that_fails_keeps_only_those_waiting_that_need_it(studies, caplog):
    work = Work(
        studies(50, 36)(arms={"vanilla": {}, "nonorm": {"nonorm": True}}, frontier={"checkpoints": 1, "keep": []})
    )
    for orders in (False, True):
        executor = Made(fail=("train:vanilla/0", "evaluate:vanilla/0", "vanilla@stop-1/0"), orders=orders)
        failed = drive.drive(executor, work, work.parts, ["r"])
        assert failed == {"vanilla/0": "train: no such token"}
        assert ["vanilla@stop-1/0" in names for names in executor.began] == ([True] if orders else [False] * 2)
        assert work.written(next(part for part in work.parts if part.key == "evaluate:nonorm/0")).exists()
        assert f"its log: {work.study.output}/logs/train/vanilla/0/output.log" in caplog.text


def test_the_time_left_is_by_the_places_that_run_and_not_by_what_waits_for_one(work, caplog, monkeypatch):
    monkeypatch.setattr(drive.time, "monotonic", iter(range(0, 10**6, 10)).__next__)

    caplog.set_level("INFO")

    class OneAtATime(Made):
        first = None

        def where(self, unit):
            return "here" if unit is self.first else ""

        def ended(self):
            self.first = self.running[0]
            return super().ended()

    assert drive.drive(OneAtATime(orders=True), work, work.parts, ["r"]) == {}
    said = re.findall(r"done in (\d+) s on here; (\d) parts? left, about 0:(\d\d):(\d\d)", caplog.text)
    assert len(said) > 2
    for number, (_, left, minutes, seconds) in enumerate(said, 1):
        mean = sum(int(took) for took, *_ in said[:number]) / number
        assert 60 * int(minutes) + int(seconds) == pytest.approx(mean * int(left), abs=1)


def test_a_teacher_that_fails_ends_the_study(work):
    executor = Made(fail=("teacher:teacher",))
    with pytest.raises(InputError, match=r"teacher:teacher failed \(train: no such token\): its log, .*output\.log"):
        drive.drive(executor, work, work.parts, ["r"])
    assert executor.stopped


def test_what_a_unit_says_it_wrote_is_looked_for(work, monkeypatch):
    monkeypatch.setattr(child, "VISIBLE", 0.0)
    failed = drive.drive(Made(forget=("nonorm/0",)), work, work.parts, ["r"])
    assert list(failed) == ["nonorm/0"]
    assert "nonorm/0/midistill.json is not there: is that folder one for all nodes?" in failed["nonorm/0"]


def test_where_all_that_is_left_waits_for_what_failed_the_study_ends(studies):
    work = Work(studies(50, 36)(arms={"vanilla": {}}, frontier={"checkpoints": 1, "keep": []}))
    assert list(drive.drive(Made(fail=("train:vanilla/0",)), work, work.parts, ["r"])) == ["vanilla/0"]


@pytest.mark.parametrize(
    ("name", "content", "whole"),
    [
        ("a.json", '{"x": 1}', True),
        ("a.json", '{"x": ', False),
        ("a.jsonl", '{"x": 1}\n{"x": 2}\n', True),
        ("a.jsonl", '{"x": 1}\n{"x": 2}', False),
        ("a.jsonl", '{"x": 1}\n{"x": \n', False),
        ("a.txt", "{", True),
    ],
)
def test_a_record_that_ends_too_early_is_found(tmp_path, name, content, whole):
    (tmp_path / "results" / "deep").mkdir(parents=True)
    (tmp_path / "results" / "deep" / name).write_text(content)
    assert drive._is_whole(tmp_path / "results") == whole
    assert drive._is_whole(tmp_path / "results" / "deep" / name) == whole


def a_unit(folder, name, *arguments):
    unit = Unit(name, (), Need(0, None, None), arguments, folder / name, ())
    unit.begin()
    return unit


@pytest.mark.parametrize("forked", [True, False])
def test_processes_of_this_machine_run_as_many_at_a_time_as_asked(tmp_path, monkeypatch, forked):
    monkeypatch.setattr(forks, "possible", lambda: forked)
    monkeypatch.setattr(forks, "start_server", lambda env: None)  # the tests have theirs, see warm.py
    units = [a_unit(tmp_path, str(number), "--version") for number in range(3)]
    units.append(a_unit(tmp_path, "wrong", "nonsense"))
    executor, ended = Local(2), []
    executor.check(tmp_path, Resources(), units)
    executor.start(units)
    assert len(executor.running) == 2
    while len(ended) < 4:
        ended += executor.ended()
    assert {unit.name: reason for unit, reason in ended} == {"0": "", "1": "", "2": "", "wrong": "exit status 2"}
    assert units[0].log.read_text().startswith("\n$ midistill --version\nmidistill ")
    assert "invalid choice: 'nonsense'" in units[3].log.read_text()
    assert executor.where(units[0]) == units[0].node != ""


def test_threads_are_divided_unless_they_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "cores", lambda: 8)
    monkeypatch.setattr(child, "begin", lambda arguments, logs, env: begun.append(env))
    for said, expected in (({}, {"OMP_NUM_THREADS": "2"}), ({"MKL_NUM_THREADS": "5"}, {"MKL_NUM_THREADS": "5"})):
        begun: list[dict[str, str]] = []
        with monkeypatch.context() as patch:
            for name in child.THREADS:
                patch.delenv(name, raising=False)
            for name, value in said.items():
                patch.setenv(name, value)
            Local(4).start([a_unit(tmp_path, "0", "--version")])
        assert {name: begun[0][name] for name in child.THREADS if name in begun[0]} == expected


@pytest.mark.parametrize(
    ("name", "jobs", "env", "said"),
    [
        ("local", 0, {}, "--jobs 0: give 1 or more"),
        ("ray", 2, {}, "leave --jobs out"),
        ("local", 2, {"RANK": "1"}, "start midistill itself without it"),
    ],
)
def test_what_makes_no_sense_is_said(monkeypatch, name, jobs, env, said):
    for key, value in env.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(InputError, match=said):
        make_executor(name, jobs)
