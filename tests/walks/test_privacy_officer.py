"""Somebody who must audit a model on the company's own files before it is released, and has read the README only."""

from __future__ import annotations

import json
import re

import pytest

from .conftest import rows_of, write_jsonl

pytestmark = pytest.mark.slow


@pytest.fixture
def files(people, tmp_path):
    """Train.jsonl with a duplicate, an empty text and one that is held out as well; held_out.jsonl."""
    members = [{"case_id": f"case-{n:03d}", "body": text} for n, text in enumerate(people[:200])]
    members += [
        {"case_id": "again", "body": people[7]},
        {"case_id": "empty", "body": "  "},
        {"case_id": "both", "body": people[300]},
    ]
    write_jsonl(tmp_path / "train.jsonl", members)
    others = [{"case_id": f"out-{n:03d}", "body": text} for n, text in enumerate(people[300:510])]
    write_jsonl(tmp_path / "held_out.jsonl", others)
    return {"members": "train.jsonl", "nonmembers": "held_out.jsonl", "column": "body", "id_column": "case_id"}


def test_the_audit_of_own_files_from_check_to_page(files, leaking, people, shell, tmp_path):
    options = json.dumps({"mia": files | {"log_text": False}})

    checked = shell("midistill", "check", "--metadata", options, "--model", leaking).out
    assert "judged: 200 members, 207 non-members; left out: empty 1, duplicates 1, both sides 2, shots 2" in checked
    for line in (
        "not judged: again, the same text as case-007",
        "not judged: empty, no text",
        "not judged: both, also among the non-members: out-000",
        "the rate at 1 % false accusations has no interval: that needs 500 non-members",
    ):
        assert line in checked
    assert re.search(r"words alone tell the sides apart with AUROC 0\.[45]\d\d ± 0\.\d+: no more than chance", checked)
    assert re.search(r"reads \d+ tokens at once; the texts have \d+ to \d+", checked)

    model = ("--model", "hf", "--model_args", f"pretrained={leaking},dtype=float32", "--device", "cpu")
    ran = shell(
        *("spied", "--tasks", "mia_files", *model, "--batch_size", "16", "--metadata", options),
        *("--output_path", "results", "--log_samples"),
    )
    assert re.search(r"mia_strongest_files\|.*auroc", ran.out)
    assert ran.out.count("|blind_auroc") == 1
    assert "midistill: no figures of mia_ref_files: needs a reference model" in ran.err

    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["connected"] == []
    expected = tuple(str(tmp_path / name) for name in ("results", "tmp", "seen.json"))
    assert [path for path in seen["written"] if not path.startswith((*expected, "/dev/"))] == []
    assert [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "home").exists()

    reported = shell("midistill", "report", "results", "--json").out
    answer = re.search(
        r"Yes: at 2 false accusations in 207 non-members, (\d+) of 200 members are found \(\w+\), where scores that "
        r"say nothing find 3\.",
        reported,
    )
    assert answer
    assert int(answer[1]) > 20
    assert "treat the most exposed ones" in reported
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert answer[0] in page
    assert "What the words mean" in page

    exposed = rows_of(tmp_path / "report" / "exposed-files.csv")
    judged = [row for row in exposed if not row["not_judged"]]
    assert sorted(row["name"] for row in judged) == [f"case-{n:03d}" for n in range(200)]
    assert [row["rank"] for row in judged] == [str(rank) for rank in range(1, 201)]
    assert {row["name"]: row["not_judged"] for row in exposed[200:]} == {
        "again": "the same text as case-007",
        "empty": "no text",
        "both": "also among the non-members: out-000",
    }
    assert judged[0]["name"] in page
    assert {row["leak_found"] for row in exposed} == {"yes"}
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["answers"][0]["word"] == "leaks"

    words = {word for text in people[:200] for word in text.split() if len(word) > 12}
    written = [path for folder in ("results", "report") for path in (tmp_path / folder).rglob("*") if path.is_file()]
    for content in (*(path.read_text(encoding="utf-8") for path in written), ran.out, ran.err, checked, reported):
        assert not {word for word in words if word in content}


def test_another_text_column_and_a_missing_file_are_said_at_once(files, leaking, shell, tmp_path):
    for changes, sentence in (
        ({"column": "bodi"}, "has no column 'bodi' (did you mean 'body'?)"),
        ({"members": "trian.jsonl"}, "there is no file 'trian.jsonl'"),
        ({"id_column": "case"}, "has no column 'case' (did you mean 'case_id'?)"),
    ):
        said = shell("midistill", "check", "--metadata", json.dumps({"mia": files | changes}), code=2).err
        assert sentence in said
        assert "Traceback" not in said
