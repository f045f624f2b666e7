"""A person sees our steps and warnings; what libraries say stands in the run's log file."""

from __future__ import annotations

import logging
import sys
import warnings
from types import ModuleType

import pytest
import tqdm
from tqdm.auto import tqdm as automatic

from midistill_tasks.cli.console import logged

OURS = logging.getLogger("midistill_tasks.some.module")


class _Person(logging.StreamHandler):
    """stderr, whatever that is at the moment: pytest changes it between a fixture and its test."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@pytest.fixture
def seen(capsys):
    """What a person sees, as `console.set_up` would have it on a fresh root logger."""
    root, person, level = logging.getLogger(), _Person(), logging.getLogger().level
    root.addHandler(person)
    root.setLevel(logging.INFO)
    yield lambda: capsys.readouterr().err
    root.removeHandler(person)
    root.setLevel(level)


def test_libraries_speak_to_the_log_file_but_for_errors(seen, tmp_path):
    transformers = logging.getLogger("transformers")
    with logged(tmp_path):
        OURS.info("a step")
        OURS.debug("a log line")
        transformers.warning("a note")
        logging.getLogger("lm_eval.models").info("a detail")
        warnings.warn("it is old", FutureWarning, stacklevel=1)
        transformers.error("it broke")
    assert seen().splitlines() == ["a step", "it broke"]
    log = (tmp_path / "midistill.log").read_text()
    for said in ("a step", "a log line", "a note", "a detail", "it is old", "it broke"):
        assert said in log
    OURS.info("afterwards")
    logging.getLogger("lm_eval.models").warning("a warning")
    assert seen().splitlines() == ["afterwards", "a warning"]
    assert "afterwards" not in (tmp_path / "midistill.log").read_text()


def test_a_run_that_is_refused_before_its_first_step_writes_no_log(seen, tmp_path):
    with logged(tmp_path):
        logging.getLogger("transformers").warning("a note")
        OURS.warning("left out")
    assert list(tmp_path.iterdir()) == []
    with logged(tmp_path / "not there"):
        OURS.info("a step")
    assert list(tmp_path.iterdir()) == []


def test_what_came_before_the_first_step_is_in_the_log_and_another_run_goes_on_in_it(seen, tmp_path):
    for step in ("first", "second"):
        with logged(tmp_path):
            logging.getLogger("transformers").warning("before the %s", step)
            OURS.info("the %s step", step)
    lines = (tmp_path / "midistill.log").read_text().splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == [
        "before the first", "the first step", "before the second", "the second step",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("terminal", "module", "drawn"),
    [
        (True, "midistill_tasks.scoring.run", True),
        (True, "huggingface_hub.file_download", True),
        (True, "transformers.modeling_utils", False),
        (False, "midistill_tasks.scoring.run", False),
    ],
)
def test_bars_are_few_on_a_terminal_and_none_elsewhere(terminal, module, drawn, seen, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    caller = ModuleType(module)
    exec("def bar(kind): return kind(total=3, disable=False)", caller.__dict__)  # noqa: S102 (a module of that name)
    with logged(tmp_path):
        for kind in (tqdm.tqdm, automatic):
            bar = caller.bar(kind)
            assert bar.disable is not drawn
            bar.close()
    assert automatic(total=3, disable=False).disable is False
    seen()
