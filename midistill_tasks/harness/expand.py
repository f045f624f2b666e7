"""From one YAML a split to the tasks of all attacks: in memory for the harness's index, or as files for a folder.

A split's file (``task_yamls/mia_<split>.yaml``, as in the README's "Your own split") says what all its tasks share.
From it and the registry of attacks, other packages' included, come ``mia_<attack>_<split>``, ``heldout_<split>`` and
the groups ``mia_<split>``, ``mia_all_<split>`` and ``mia_strong_<split>``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.files import write_atomically
from midistill_tasks.splits import SPLITS

TASK = "midistill_tasks.task.MIATask"
HELDOUT_TASK = "midistill_tasks.task.HeldoutTask"
HELDOUT = "midistill_tasks.heldout.nonmembers"
PERPLEXITIES = (
    ("word_perplexity", "weighted_perplexity"),
    ("byte_perplexity", "weighted_perplexity"),
    ("bits_per_byte", "bits_per_byte"),
)
_FUNCTION = "!function "


class _Loader(yaml.SafeLoader):
    """Reads the harness's ``!function`` as a plain string, which begins with that word."""


_Loader.add_constructor("!function", lambda loader, node: _FUNCTION + str(loader.construct_scalar(node)))  # type: ignore[arg-type]


def read_split(path: Path) -> dict[str, Any]:
    """A split's file, its functions by name."""
    content: dict[str, Any] = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    return content


def groups() -> dict[str, list[str]]:
    """Beginning of a group's name → its attacks: the paper's and other packages', all there are, the strongest.

    In front of each stands the row to publish, an attack that `picks` among the others.
    """
    heading = [name for name, attack in ATTACKS.items() if attack.picks]
    return {
        "mia": heading + [name for name, attack in ATTACKS.items() if attack.by_default],
        "mia_all": heading + [name for name in ATTACKS if name not in heading],
        "mia_strong": heading + [name for name, attack in ATTACKS.items() if attack.strong],
    }


def expanded(split: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tasks, the groups and the perplexity of a split, from what its file says; functions by name.

    The groups come first; inside them, what an attack lacks leaves its row out, asked for by name it stops.
    """
    name, metadata = str(split["split"]), split["metadata"]
    for group, attacks in groups().items():
        members = [{"task": f"mia_{attack}_{name}", "optional": True} for attack in attacks]
        yield {"group": f"{group}_{name}", "task": members, "metadata": metadata}
    for attack in ATTACKS:
        # What only a user has, as files, would stop all others of the tag.
        tag = {} if name in SPLITS and SPLITS[name].needs else {"tag": f"mia_{attack}"}
        task: dict[str, Any] = {"task": f"mia_{attack}_{name}", **tag, "attack": attack}
        if ATTACKS[attack].metrics and "metric_list" in split:
            more = [{"metric": name, "aggregation": f"mia_{name}"} for name in ATTACKS[attack].metrics]
            task["metric_list"] = [*split["metric_list"], *more]
        yield {"class": _FUNCTION + TASK, **{key: split[key] for key in split if key not in ("class", "task")}, **task}
    yield {  # not named mia_…, for it is no attack
        "class": _FUNCTION + HELDOUT_TASK,
        "custom_dataset": _FUNCTION + HELDOUT,
        "task": f"heldout_{name}",
        "dataset_kwargs": {"heldout": name},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": metric, "aggregation": aggregation, "higher_is_better": False}
            for metric, aggregation in PERPLEXITIES
        ],
        "metadata": metadata,
    }


class _LazyTask:
    """Stands for a task's class in the index: a run without our tasks does not import what they need."""

    def __new__(cls, config: Mapping[str, Any]) -> Any:
        from midistill_tasks import task

        return getattr(task, cls.__name__)(config=config)

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Never reached; its signature tells `TaskFactory` to hand over the configuration."""


def _lazy_nonmembers(**metadata: Any) -> Any:
    from midistill_tasks.harness.heldout import nonmembers

    return nonmembers(**metadata)


_RESOLVED: dict[str, Callable[..., Any]] = {
    **{_FUNCTION + name: type(name.rpartition(".")[2], (_LazyTask,), {}) for name in (TASK, HELDOUT_TASK)},
    _FUNCTION + HELDOUT: _lazy_nonmembers,
}


def entries(folder: Path) -> Iterator[dict[str, Any]]:
    """What the harness's index holds of us: the groups' files as they are, splits expanded, functions resolved."""
    for path in sorted(folder.glob("*.yaml")):
        content = read_split(path)
        for config in expanded(content) if "split" in content else [content]:
            yield {
                key: _RESOLVED.get(value, value) if isinstance(value, str) else value for key, value in config.items()
            }


def files(folder: Path) -> dict[str, str]:
    """The same as files: path → YAML, for ``--include_path`` and for the wheel."""
    made: dict[str, str] = {}
    for path in sorted(folder.glob("*.yaml")):
        content = read_split(path)
        if "split" not in content:
            made[path.name] = path.read_text(encoding="utf-8")
            continue
        for config in expanded(content):
            name = config.get("group") or config["task"]
            made[f"{content['split']}/{name}.yaml"] = dump(config)
    return made


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the same text, sooner


def dump(config: Mapping[str, Any]) -> str:
    """YAML in the given order; functions first, as the harness's own tag."""
    functions = {key: value for key, value in config.items() if isinstance(value, str) and value.startswith(_FUNCTION)}
    rest = {key: value for key, value in config.items() if key not in functions}
    lines = "".join(f"{key}: {value}\n" for key, value in functions.items())
    return lines + yaml.dump(rest, Dumper=_DUMPER, sort_keys=False, width=1000)


def written(made: Mapping[str, str]) -> Path:
    """A folder that holds these `files`, below the user's cache: made where it is not there yet."""
    digest = hashlib.sha256(repr(sorted(made.items())).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "midistill" / f"tasks-{digest}"
    for name, text in made.items():
        path = cache / name
        if not path.is_file():
            write_atomically(path, text, ", such as XDG_CACHE_HOME=/tmp/cache")
    return cache
