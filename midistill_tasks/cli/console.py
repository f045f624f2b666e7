"""What a person sees of a run: its steps, one bar where there is a terminal, and warnings that can be acted on.

Everything else (warnings of libraries, the Trainer's log lines) goes into the run's log file. The command line alone
sets this up: a program that imports midistill configures logging as it likes.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from midistill_tasks.files import LOG
from midistill_tasks.secrets import hide_in_logs

OURS = "midistill_tasks"
BARS = (OURS, "huggingface_hub", "lm_eval.models")
"""Whose progress bars are shown on a terminal: training, scoring, downloads."""


class RunLog(logging.Handler):
    """Appends all records to the log file in a run's folder, from the run's first own step on.

    What comes before is kept until then: a run that is refused writes nothing.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(logging.DEBUG)
        self.path = folder / LOG
        self.kept: list[logging.LogRecord] = []
        self.file: logging.FileHandler | None = None
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, or keeps it."""
        self.kept.append(record)
        begins = _is_ours(record) and record.levelno == logging.INFO and self.path.parent.is_dir()
        if self.file is None and begins:
            with suppress(OSError):  # the run itself says where it cannot write
                self.file = logging.FileHandler(self.path, encoding="utf-8")
                self.file.setFormatter(self.formatter)
        if self.file is not None:
            for each in self.kept:
                self.file.emit(each)
            self.kept.clear()

    def close(self) -> None:
        """Closes the file."""
        if self.file is not None:
            self.file.close()
        super().close()


def set_up() -> None:
    """Says our steps and everyone's warnings on stderr, as plain sentences; a launcher's first process alone does."""
    hide_in_logs()
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Within it libraries speak to the log file in `folder` only, but for errors, and bars are few or none."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    log, root, ours = RunLog(folder), logging.getLogger(), logging.getLogger(OURS)
    console = [handler for handler in root.handlers if isinstance(handler, logging.StreamHandler)]
    before = ours.level
    with ExitStack() as stack:
        stack.callback(log.close)
        stack.callback(root.removeHandler, log)
        root.addHandler(log)
        for handler in console:
            handler.addFilter(_for_people)
            stack.callback(handler.removeFilter, _for_people)
        ours.setLevel(logging.DEBUG)
        stack.callback(ours.setLevel, before)
        logging.captureWarnings(True)
        stack.callback(logging.captureWarnings, False)
        stack.enter_context(_libraries_propagate())
        stack.enter_context(_few_bars())
        yield


def _for_people(record: logging.LogRecord) -> bool:
    return record.levelno >= (logging.INFO if _is_ours(record) else logging.ERROR)


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == OURS or record.name.startswith(f"{OURS}.")


@contextmanager
def _libraries_propagate() -> Iterator[None]:
    """Takes away the handlers by which these libraries print past the root logger."""
    before = {}
    for name in ("transformers", "huggingface_hub", "datasets"):
        __import__(name)  # it puts them there
        library = logging.getLogger(name)
        before[library] = library.handlers[:], library.propagate
        library.handlers[:], library.propagate = [], True
    try:
        yield
    finally:
        for library, (handlers, propagate) in before.items():
            library.handlers[:], library.propagate = handlers, propagate


@contextmanager
def _few_bars() -> Iterator[None]:
    """No bar where stderr is no terminal, and on one only those of `BARS`: some libraries ask no setting."""
    from tqdm import std

    init, terminal = std.tqdm.__init__, sys.stderr.isatty()

    def of_few(self: Any, *args: Any, **kwargs: Any) -> None:
        if not terminal or not _asked_by().startswith(BARS):
            kwargs["disable"] = True
        init(self, *args, **kwargs)

    std.tqdm.__init__ = of_few
    try:
        yield
    finally:
        std.tqdm.__init__ = init


def _asked_by() -> str:
    """The module that makes the bar: the first above this one and tqdm's own."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(("tqdm", "midistill_tasks.cli.console")):
        frame = frame.f_back
    return str(frame.f_globals["__name__"])
