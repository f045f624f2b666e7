"""How a stock harness finds midistill, what that costs everybody else, and that it never breaks anything."""

from __future__ import annotations

import os
import py_compile
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from midistill_tasks import harness
from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError
from midistill_tasks.harness import expand
from midistill_tasks.harness.expand import groups
from midistill_tasks.splits import SPLITS

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "plugin"


def python(*arguments: Any, cwd: Path = Path(__file__).parent, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | environment,
        cwd=cwd,
    )


# ---------------------------------------------------------------------- with the stock command


@pytest.fixture(scope="module")
def listed() -> subprocess.CompletedProcess[str]:
    return python("-m", "lm_eval", "ls", "tasks")


@pytest.mark.slow
def test_the_stock_command_lists_our_tasks_beside_its_own(listed):
    assert listed.returncode == 0, listed.stderr
    for name in ("mia_bios", "mia_paper", "mia_mink_wikitext", "mia_minkpp", "hellaswag"):
        assert f"|{name} " in listed.stdout.replace("| ", "|"), name


@pytest.mark.slow
def test_bad_input_ends_the_stock_command_with_a_sentence_and_no_traceback(tmp_path):
    (tmp_path / "members.jsonl").write_text('{"text": "Anna was born in Paris."}\n')
    files = '{"mia": {"members": "members.jsonl", "nonmembers": "gone.jsonl"}}'
    command = ["-m", "lm_eval", "run", "--model", "dummy", "--tasks", "mia_loss_files", "--metadata", files]
    done = python(*command, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("midistill: there is no file 'gone.jsonl'; check the path")


def test_other_errors_keep_their_traceback_and_python_gets_the_exception(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    harness.hooks.ending.say_input_errors()
    harness.hooks.ending.say_input_errors()
    with pytest.raises(InputError) as caught:
        raise InputError("the file is empty")
    sys.excepthook(InputError, caught.value, caught.tb)
    assert capsys.readouterr().err == "midistill: the file is empty\n"
    sys.excepthook(ValueError, ValueError("no"), None)
    assert capsys.readouterr().err == "ValueError: no\n"


def test_switched_off_the_finder_is_not_installed_and_the_path_still_works():
    code = (
        "import sys, lm_eval.tasks.manager as m\n"
        "assert 'midistill_tasks.harness' not in sys.modules\n"
        "from midistill_tasks.harness import yaml_folder\n"
        "with_path = m.TaskManager(include_defaults=False, include_path=[str(yaml_folder())])\n"
        "assert 'mia_loss_bios' in with_path.all_tasks\n"
        "assert not [f for f in sys.meta_path if getattr(f, '__module__', '') == 'midistill_autoload']"
    )
    done = python("-c", code, MIDISTILL_AUTOLOAD="0")
    assert done.returncode == 0, done.stderr


def test_a_process_that_does_not_use_the_harness_pays_less_than_a_millisecond(tmp_path):
    source = tmp_path / "midistill_autoload.py"
    source.write_bytes((PLUGIN / source.name).read_bytes())
    py_compile.compile(str(source), doraise=True)  # as pip does when it installs

    def microseconds() -> int:
        done = python("-X", "importtime", "-S", "-c", "import os, midistill_autoload", PYTHONPATH=str(tmp_path))
        (line,) = [line for line in done.stderr.splitlines() if line.endswith(" midistill_autoload")]
        return int(line.split("|")[1])

    assert min(microseconds() for _ in range(5)) < 1000


def test_such_a_process_imports_nothing_more():
    code = "import os, sys; before = set(sys.modules); import midistill_autoload; print(*set(sys.modules) - before)"
    assert python("-S", "-c", code, PYTHONPATH=str(PLUGIN)).stdout.split() == ["midistill_autoload"]


# ---------------------------------------------------------------------- where the harness is absent or changed


def with_plugin(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code after the plugin in a Python without installed packages, with folders that come first in the path."""
    folders = os.pathsep.join(map(str, (*path, PLUGIN, ROOT)))
    return python("-S", "-c", f"import os, midistill_autoload\n{code}", PYTHONPATH=folders)


def make_harness(folder: Path, manager: str) -> None:
    """A package `lm_eval` that is nothing but the module in which the harness has its `TaskManager`."""
    tasks = folder / "lm_eval" / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "__init__.py").touch()
    (tasks.parent / "__init__.py").touch()
    (tasks / "manager.py").write_text(manager)


def test_without_the_harness_the_import_fails_as_it_would_without_us():
    done = with_plugin("import lm_eval.tasks.manager")
    assert "ModuleNotFoundError: No module named 'lm_eval'" in done.stderr
    assert "midistill:" not in done.stderr


@pytest.mark.parametrize("content", ["", "class TaskManager: pass", "TaskManager = None"])
def test_a_changed_harness_is_imported_all_the_same_and_one_line_says_what_is_missing(content, tmp_path):
    make_harness(tmp_path, f"{content}\nMARK = 7\n")
    code = "import lm_eval.tasks.manager as m\nprint(m.MARK)\ngetattr(m, 'TaskManager', None) and m.TaskManager()"
    done = with_plugin(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "7\n"
    assert len(done.stderr.splitlines()) == 1
    assert "midistill" in done.stderr


def test_a_package_of_ours_that_does_not_load_says_how_to_silence_it(tmp_path):
    make_harness(tmp_path, "")
    (tmp_path / "midistill_tasks").mkdir()
    (tmp_path / "midistill_tasks" / "__init__.py").write_text("raise RuntimeError('broken')")
    done = with_plugin("import lm_eval.tasks.manager", tmp_path)
    assert done.returncode == 0
    assert "not loaded into lm_eval (RuntimeError('broken')); MIDISTILL_AUTOLOAD=0 silences this" in done.stderr


def test_a_finder_of_the_old_kind_is_passed_by():
    old = "type('Old', (), {'find_module': lambda *_: None})()"
    done = with_plugin(f"import sys\nsys.meta_path.append({old})\nimport lm_eval.tasks.manager")
    assert "No module named 'lm_eval'" in done.stderr
    assert "AttributeError" not in done.stderr


def test_the_module_keeps_its_own_loader():
    import lm_eval.tasks.manager as manager

    assert type(manager.__spec__.loader).__name__ == "SourceFileLoader"
    assert manager.__loader__ is manager.__spec__.loader


# ---------------------------------------------------------------------- our tasks among others


@pytest.fixture
def manager_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The harness's module as it is without us, whose own tasks are those in an empty folder."""
    import lm_eval.tasks.manager as module

    original = getattr(module.TaskManager.__init__, "__wrapped__", module.TaskManager.__init__)
    monkeypatch.setattr(module.TaskManager, "__init__", original)
    match = getattr(module.TaskManager.match_tasks, "__wrapped__", module.TaskManager.match_tasks)
    monkeypatch.setattr(module.TaskManager, "match_tasks", match)
    (tmp_path / "stock").mkdir()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "stock" / "manager.py"))
    return module


def test_a_task_manager_with_the_harness_s_tasks_knows_ours(manager_module):
    assert "mia_bios" not in manager_module.TaskManager().all_tasks
    harness.add_tasks(manager_module)
    manager = manager_module.TaskManager()
    assert "mia_bios" in manager.all_groups
    assert "mia_loss_bios" in manager.all_subtasks
    assert "mia_loss" in manager.all_tags
    assert manager.match_tasks(["mia_*_bios"]) == sorted(f"mia_{attack}_bios" for attack in ATTACKS)


def test_what_a_pattern_catches_and_the_run_cannot_serve_is_left_out_and_said(manager_module, caplog):
    harness.add_tasks(manager_module)
    manager = manager_module.TaskManager(metadata={"pretrained": "gpt2"})
    names = manager.match_tasks(["mia_*_bios"])
    assert names == sorted(
        f"mia_{attack}_bios" for attack, kind in ATTACKS.items() if not (kind.needs_reference or kind.requires)
    )
    assert "mia_ref_bios is left out of mia_*_bios: it needs a reference model" in caplog.text
    every = manager.match_tasks(["mia_*"])
    assert {"mia_loss_bios", "mia_bios", "mia_mink"} <= set(every)
    assert not {"mia_ref", "mia_ref_wikitext", "mia_loss_files", "mia_files", "mia_canaries"} & set(every)
    assert "mia_loss_canaries is left out of mia_*: it needs your canaries: --metadata" in caplog.text
    free = sorted(f"mia_all_{name}" for name, split in SPLITS.items() if not split.needs)
    assert manager.match_tasks(["mia_all_*"]) == free
    assert manager.match_tasks(["mia_ref_bios", "mia_loss_files"]) == ["mia_loss_files", "mia_ref_bios"]
    options = {"reference": "gpt2", "members": "a", "nonmembers": "b"}
    for metadata in ({"mia": options}, options):
        given = manager_module.TaskManager(metadata=metadata)
        assert {"mia_ref", "mia_ref_bios", "mia_loss_files", "heldout_files"} <= set(given.match_tasks(["*"]))
    without = manager_module.TaskManager(metadata={"mia": {"reference": None}})
    assert "mia_ref_bios" not in without.match_tasks(["mia_*_bios"])


def test_a_task_that_stands_in_no_file_is_built_like_any_other(manager_module, files):
    harness.add_tasks(manager_module)
    manager = manager_module.TaskManager(metadata={"mia": files | {"k": 0.3}})
    assert manager.task_index["mia_mink_files"].yaml_path is None
    task = manager.load(["mia_mink_files", "heldout_files"])["tasks"]["mia_mink_files"]
    assert task.keys.variants == {"none": {"k": 0.3}}
    assert len(task.eval_docs) == 48
    group = manager_module.TaskManager(metadata={"mia": files}).load(["mia_files"])
    assert group["group_map"] == {"mia_files": [f"mia_{attack}_files" for attack in groups()["mia"]]}


@pytest.mark.parametrize("arguments", [{"include_defaults": False}, {"positional": (None, None, False)}])
def test_a_task_manager_without_the_harness_s_tasks_is_left_alone(manager_module, arguments):
    harness.add_tasks(manager_module)
    positional = arguments.pop("positional", ())
    assert manager_module.TaskManager(*positional, **arguments).all_tasks == []


def test_a_user_s_task_of_the_same_name_wins_and_tags_hold_the_tasks_of_both(manager_module, tmp_path):
    harness.add_tasks(manager_module)
    (tmp_path / "mine").mkdir()
    for name in ("mia_loss_bios", "mia_bios", "mia_loss_mine"):
        (tmp_path / "mine" / f"{name}.yaml").write_text(f"task: {name}\ntag: mia_loss\n")
    manager = manager_module.TaskManager(include_path=str(tmp_path / "mine"))
    for name in ("mia_loss_bios", "mia_bios"):
        assert manager.task_index[name].yaml_path.parent == tmp_path / "mine"
    assert {"mia_loss_mine", "mia_loss_wikitext"} <= manager.task_index["mia_loss"].tags
    assert "mia_mink_bios" in manager.all_tasks  # all else of ours is still there


def test_a_harness_that_finds_our_folder_by_itself_gets_nothing_twice(manager_module, caplog):
    plain = manager_module.TaskManager(include_path=str(harness.yaml_folder()))
    harness.add_tasks(manager_module)
    found = manager_module.TaskManager(include_path=str(harness.yaml_folder()))
    for name in ("all_tasks", "all_groups", "all_tags", "all_subtasks", "task_index"):
        assert getattr(found, name) == getattr(plain, name)
    assert "overrides" not in caplog.text


def test_a_task_manager_of_another_shape_still_works_and_says_how_to_go_on(caplog):
    class TaskManager:
        def __init__(self, include_path: str | None = None) -> None:
            self.ready = True

    module = ModuleType("manager")
    module.TaskManager = TaskManager
    harness.add_tasks(module)
    assert TaskManager().ready
    assert "use --include_path" in caplog.text


def test_our_students_load_and_our_metrics_are_known_wherever_the_harness_is():
    from lm_eval.api.registry import get_aggregation
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    harness.add_metrics(SimpleNamespace())
    harness.add_models(SimpleNamespace())
    assert callable(get_aggregation("mia_auroc"))
    assert "midistill" in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


# ---------------------------------------------------------------------- as installed


def entry_points(group: str) -> dict[str, str]:
    """The table of pyproject.toml (tomllib is not in Python 3.10)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = text.split(f'[project.entry-points."{group}"]\n')[1].split("\n\n")[0]
    return dict(re.findall(r'^"?([\w.]+)"? = "(.*)"$', table, flags=re.MULTILINE))


def test_the_declared_entry_points_are_the_registered_metrics():
    from midistill_tasks.harness.metrics import AGGREGATIONS

    where = "midistill_tasks.harness.metrics"
    assert entry_points("lm_eval.metrics") == dict.fromkeys(AGGREGATIONS, f"{where}:item")
    assert entry_points("lm_eval.aggregations") == {name: f"{where}:{name.replace('.', '_')}" for name in AGGREGATIONS}
    assert entry_points("lm_eval.tasks") == {"midistill": "midistill_tasks.task_yamls"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution as a normal installation builds it."""
    pytest.importorskip("hatchling", reason="the build backend is not here: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.split()[-1]


def test_the_wheel_holds_yamls_plugin_and_templates(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"midistill_autoload.py", "midistill_autoload.pth"} <= names
    yamls = {f"midistill_tasks/task_yamls/{name}" for name in _yamls()}
    assert len(yamls) > 100
    assert yamls <= names
    assert {f"midistill_tasks/split_yamls/{path.name}" for path in (ROOT / "task_yamls").glob("*.yaml")} <= names
    assert not [name for name in names if "__pycache__" in name]
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    declared = zipfile.ZipFile(wheel).read(entry).decode()
    for group in ("lm_eval.tasks", "lm_eval.metrics", "lm_eval.aggregations"):
        assert f"[{group}]" in declared


def _yamls() -> dict[str, str]:
    return expand.files(ROOT / "task_yamls")


def test_installed_normally_the_folder_is_the_installed_one_and_the_plugin_works(wheel, tmp_path):
    pytest.importorskip("pip", reason="this environment has no pip to install with")
    installed = python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", tmp_path, wheel)
    assert installed.returncode == 0, installed.stderr
    code = (
        f"import site, sys\nsys.path.insert(0, {str(tmp_path)!r})\nsite.addsitedir({str(tmp_path)!r})\n"
        "from midistill_tasks.cli import main as cli; from midistill_tasks import harness\n"
        "cli.main(['tasks', 'path'])\n"
        "import midistill_autoload\n"
        "print(midistill_autoload.__file__, midistill_autoload._Finder in sys.meta_path)\n"
        "print(len(list(harness.yaml_folder().glob('**/*.yaml'))))"
    )
    done = python("-S", "-c", code.replace("import site", "import os, site"), PYTHONPATH=os.pathsep.join(_libraries()))
    assert done.returncode == 0, done.stderr
    path, plugin, count = done.stdout.splitlines()
    assert Path(path) == tmp_path / "midistill_tasks" / "task_yamls"
    assert plugin == f"{tmp_path / 'midistill_autoload.py'} True"
    assert int(count) == len(_yamls())


def _libraries() -> list[str]:
    """Where installed packages are, for a Python that does not run their .pth files."""
    return [path for path in sys.path if path.endswith("-packages")]
