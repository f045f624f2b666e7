"""The command ``midistill``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from midistill_tasks import __version__
from midistill_tasks.attacks import ATTACKS
from midistill_tasks.cli import main as cli
from midistill_tasks.errors import InputError
from midistill_tasks.harness import yaml_folder
from midistill_tasks.splits import SPLITS


def test_tasks_lists_attacks_and_splits_with_one_line_each(capsys):
    assert cli.main(["tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for entry in (*ATTACKS.values(), *SPLITS.values()):
        (line,) = [line for line in lines if line.split()[:1] == [entry.name]]
        assert entry.title in line
    assert "mia_wikimia_64, mia_mimir_arxiv, mia_bookcorpus, mia_openwebtext" in "\n".join(lines)
    assert any("refuses a task that is asked for twice" in line for line in lines)


def test_tasks_path_is_the_folder_of_the_yamls(capsys):
    assert cli.main(["tasks", "path"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == str(yaml_folder())
    assert (yaml_folder() / "bios" / "mia_loss_bios.yaml").is_file()


def test_bad_input_is_one_sentence_on_stderr_and_status_two(monkeypatch, capsys):
    def run(args: object) -> int:
        raise InputError("there is no file 'x'; check the path")

    module = SimpleNamespace(run=run, add_arguments=lambda parser: None)
    monkeypatch.setitem(sys.modules, "midistill_tasks.cli.tasks", module)
    assert cli.main(["tasks"]) == 2
    assert capsys.readouterr().err == "midistill tasks: there is no file 'x'; check the path\n"


@pytest.fixture
def interruptible():
    """A shell starts what runs in the background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("verb", ["distill", "study"])
def test_a_verb_that_is_stopped_says_in_one_line_what_to_type_to_go_on(verb, number, status, monkeypatch, capsys):
    def add_arguments(parser):
        parser.add_argument("recipe")
        parser.add_argument("--resume", action="store_true")

    def run(args):
        os.kill(os.getpid(), number)
        pytest.fail("it went on")

    module = SimpleNamespace(run=run, add_arguments=add_arguments)
    monkeypatch.setitem(sys.modules, f"midistill_tasks.cli.{verb}", module)
    more = " --resume" if verb == "distill" else ""
    for _ in range(2):
        assert cli.main([verb, "my recipe.yaml"]) == status
        said = capsys.readouterr().err
        assert said == f"\nmidistill {verb}: stopped; to go on: midistill {verb} 'my recipe.yaml'{more}\n"
    if verb == "distill":
        assert cli.main([verb, "r.yaml", "--resume"]) == status
        assert capsys.readouterr().err.count("--resume") == 1


def test_sigterm_that_comes_once_more_lets_a_verb_end_in_order(monkeypatch, capsys):
    ended = []

    def run(args):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            ended.append("in order")

    module = SimpleNamespace(run=run, add_arguments=lambda parser: None)
    monkeypatch.setitem(sys.modules, "midistill_tasks.cli.tasks", module)
    assert cli.main(["tasks"]) == 143
    assert ended == ["in order"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert "to go on: midistill tasks" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [[], ["nothing"], ["tasks", "nothing"]])
def test_a_command_line_that_is_none_says_what_there_is(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2
    assert "usage: midistill" in capsys.readouterr().err


def test_help_lists_every_verb_and_the_version_is_the_package_s(capsys):
    for flag in ("--help", "--version"):
        with pytest.raises(SystemExit) as stopped:
            cli.main([flag])
        assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in cli.VERBS)
    assert f"midistill {__version__}" in printed


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_shows_its_help(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"usage: midistill {verb}" in capsys.readouterr().out


def test_help_of_any_verb_imports_neither_torch_nor_the_harness():
    code = (
        "import sys\nfrom midistill_tasks.cli import main as cli\n"
        "for verb in cli.VERBS:\n"
        "    try: cli.main([verb, '--help'])\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'lm_eval', 'transformers', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
