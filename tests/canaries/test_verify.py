"""Verify finds a canary that is missing, one that stands there too often, and one that was held out."""

from __future__ import annotations

import json

import pytest

from midistill_tasks.canaries.verify import verify
from midistill_tasks.cli.main import main
from midistill_tasks.splits.canaries import read_canaries


@pytest.fixture
def mixed(planted, tmp_path):
    """``mixed(lines)``: a training file with the inserted canaries as `lines` changes them, and other texts."""

    def mixed(change=lambda lines: lines):
        lines = (planted / "inserted.jsonl").read_text(encoding="utf-8").splitlines()
        others = [json.dumps({"text": f"an ordinary text, number {n}"}) for n in range(50)]
        path = tmp_path / "mixed.jsonl"
        path.write_text("\n".join([*others, *change(lines)]) + "\n", encoding="utf-8")
        return path

    return mixed


def checked(planted, path, capsys, *more):
    code = main(["canaries", "verify", str(planted), str(path), *more])
    return code, *capsys.readouterr()


def test_a_file_as_planned_is_passed_with_its_counts(planted, mixed, capsys):
    code, out, err = checked(planted, mixed(), capsys)
    groups = read_canaries(planted).plan.groups
    held_out = sum(sides["held_out"] for sides in groups.values())
    assert (code, err) == (0, "")
    lines = 3 * groups["3"]["inserted"]
    assert f"repeats    3: {lines} lines of inserted canaries found, {lines} planned" in out
    assert f"held out: 0 of {held_out} found; {50 + lines + groups['1']['inserted']} rows read" in out


def test_a_missing_a_doubled_and_a_leaked_one_are_found_and_named(planted, mixed, capsys):
    found = read_canaries(planted)
    missing = next(canary for canary in found.inserted if canary.repeats == 1)
    doubled, leaked = next(canary for canary in found.inserted if canary.repeats == 3), found.held_out[0]

    def drop(lines):
        return [line for line in lines if missing.id not in line]

    def double(lines):
        return [*lines, next(line for line in lines if doubled.id in line)]

    def leak(lines):
        return [*lines, json.dumps({"text": leaked.text})]

    for change, said in (
        (drop, f"1 inserted canaries stand there too seldom ({missing.id}: 0): mix inserted.jsonl in once"),
        (double, f"1 inserted canaries stand there too often ({doubled.id}: 4)"),
        (leak, f"1 held-out canaries stand there ({leaked.id}: 1)"),
    ):
        code, _, err = checked(planted, mixed(change), capsys)
        assert code == 1
        assert said in err
        assert err.count("\n") == 1
    code, out, err = checked(planted, mixed(lambda lines: leak(double(drop(lines)))), capsys)
    assert err.count("stand there") == 3
    assert "held out: 1 of" in out


def test_canaries_within_longer_texts_count(planted, tmp_path):
    found = read_canaries(planted)
    lines = [canary.text for canary in found.inserted for _ in range(canary.repeats)]
    packed = tmp_path / "packed.csv"
    rows = [
        '"' + f"<s> before {lines[n]} and {lines[n + 1]}</s>".replace('"', '""') + '"'
        for n in range(0, len(lines) - 1, 2)
    ]
    last = [] if len(lines) % 2 == 0 else ['"' + lines[-1].replace('"', '""') + '"']
    packed.write_text("\n".join(["body", *rows, *last]) + "\n", encoding="utf-8")
    assert verify(found, [str(packed)], "body").fault == ""
    leaked = tmp_path / "leaked.txt"
    leaked.write_text(f"chat: {found.held_out[3].text} (end)\n", encoding="utf-8")
    assert verify(found, [str(leaked)]).leaked == [found.held_out[3]]


def test_its_texts_are_found_as_often_as_a_plain_search_finds_them(planted, mixed):
    found = read_canaries(planted)
    path = mixed()
    whole = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    counts = verify(found, str(path)).counts
    for canary in (*found.inserted, *found.held_out):
        assert counts[canary] == sum(text.count(canary.text) for text in whole)


def test_another_column_and_a_file_that_is_not_there_are_said(planted, mixed, capsys):
    code, _, err = checked(planted, mixed(), capsys, "--column", "txt")
    assert (code, "has no column 'txt' (did you mean 'text'?)" in err) == (2, True)
    code, _, err = checked(planted, "absent.jsonl", capsys)
    assert (code, "there is no file 'absent.jsonl'" in err) == (2, True)
