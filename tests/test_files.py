"""What is written is whole or not there, and a failed write is one sentence."""

from __future__ import annotations

import errno
import os

import pytest
from safetensors import SafetensorError

from midistill_tasks.errors import InputError
from midistill_tasks.files import whole_folder, write_atomically, writing


def test_a_file_appears_whole_and_nothing_is_left_beside_it(tmp_path):
    write_atomically(tmp_path / "a.txt", "żółć")
    write_atomically(tmp_path / "a.txt", b"again")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.txt": b"again"}


@pytest.fixture
def full_disk(monkeypatch):
    """Files can be opened, and hold nothing."""

    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", lambda path, content: [path.touch(), write()])
    monkeypatch.setattr("pathlib.Path.write_text", lambda path, *content, **how: [path.touch(), write()])


def test_a_full_disk_leaves_what_was_there_and_says_what_to_do(tmp_path, full_disk):
    os.close(os.open(tmp_path / "a.txt", os.O_CREAT))
    with pytest.raises(InputError, match=r"a\.txt cannot be written \(No space left on device\): free some space"):
        write_atomically(tmp_path / "a.txt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_in_place_of_a_folder_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"\(File exists\): give a folder that can be written"):
        write_atomically(tmp_path / "file" / "a.txt", b"new")


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "give a folder"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "free some space; then wait"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 640 vs 534"), "free some space"),
        (RuntimeError("PytorchStreamWriter failed writing file data/1"), "free some space"),
        (RuntimeError("basic_ios::clear: iostream error"), "free some space"),
        (SafetensorError("Error while serializing: I/O error: No space left (os error 28)"), "free some space"),
    ],
)
def test_what_fails_in_writing_is_one_sentence(error, remedy):
    with (
        pytest.raises(InputError, match=f"output: x cannot be written .*: {remedy}"),
        writing("output: x", "; then wait"),
    ):
        raise error


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), ConnectionError("no route"), FileNotFoundError(errno.ENOENT, "none")]
)
def test_other_errors_are_not_hidden(error):
    with pytest.raises(type(error)), writing("output"):
        raise error


def test_a_folder_appears_whole_and_what_a_dead_process_left_is_removed(tmp_path):
    for left in ("t.unfinished", "t.0f.unfinished", "other.unfinished"):
        (tmp_path / left).mkdir()
    with whole_folder(tmp_path / "t") as folder:
        (folder / "a").touch()
        assert not (tmp_path / "t").exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "other.unfinished", "t"]


def test_a_folder_that_fails_is_not_there(tmp_path):
    def fill():
        with whole_folder(tmp_path / "t", "key") as folder:
            (folder / "a").touch()
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"key: .*t cannot be written"):
        fill()
    assert list(tmp_path.iterdir()) == []
