"""What a MIA task's YAML says, resolved once: which attack, which split, with which options, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, StrictStr, ValidationError

from midistill_tasks.attacks import ATTACKS, Attack
from midistill_tasks.errors import InputError, nearest, warn_once
from midistill_tasks.harness.options import Options, parse_options
from midistill_tasks.metrics import METRICS
from midistill_tasks.metrics.halves import HALVES
from midistill_tasks.splits import SPLITS, Split
from midistill_tasks.splits.readers import reason
from midistill_tasks.views import View

DEFAULT_METRICS: tuple[str, ...] = (
    "auroc",
    "tpr_at_1pct_fpr",
    "balanced_acc",
    "member_acc",
    "nonmember_acc",
    "blind_auroc",
)
NO_REFERENCE = (
    "needs a reference model, which should be like the target but not trained on the members: "
    '--metadata \'{"mia": {"reference": "EleutherAI/pythia-70m"}}\''
)


def lacking(name: str, metadata: Mapping[str, Any]) -> str | None:
    """What a task, tag or group of this name cannot do without, as far as the name tells, and these options lack."""
    nested = metadata.get("mia")
    options = {**metadata, **(nested if isinstance(nested, Mapping) else {})}  # an option may stand beside 'mia', too
    attacks = [attack for attack in ATTACKS if f"{name}_".startswith(f"mia_{attack}_")]
    if any(ATTACKS[attack].needs_reference for attack in attacks) and options.get("reference") is None:
        return NO_REFERENCE
    for attack in attacks:
        section = options.get(attack)
        given = {**options, **(section if isinstance(section, Mapping) else {})}
        for key in ATTACKS[attack].requires:
            if given.get(key) is None:
                return _no_option(ATTACKS[attack], key)
    asked = [
        split for split in SPLITS.values() if name.startswith(("mia_", "heldout_")) and name.endswith(f"_{split.name}")
    ]
    return next((lacks for split in asked if (lacks := split.lacks(options))), None)


@dataclass(frozen=True)
class TaskKeys:
    """A task's own keys.

    Attributes:
        task: its name.
        attack: of `ATTACKS`.
        split: of `SPLITS`; None where the harness's own keys say where texts and labels are.
        split_name: the split's, or what a user's YAML calls it, or what is left of the task's name.
        valid_for: for which models the labels are true.
        options: of the run.
        reference: the reference model as JSON of its model_args, "base", or None.
        left_out: why an optional task gives nothing, or None.
        metrics: names, in the order of the table.
        shown: the harness's ``metric_list``.
        blind: whether the blind baseline is computed; inside a group one task alone shows it.
    """

    task: str
    attack: Attack
    split: Split | None
    split_name: str
    valid_for: str
    options: Options
    reference: str | None
    left_out: str | None
    metrics: tuple[str, ...]
    shown: Sequence[Mapping[str, Any]]
    blind: bool

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """The harness's filter → options of this task's attack; see `Options.variants`."""
        return self.options.variants(self.attack.name)

    @property
    def learnt(self) -> bool:
        """See `Attack.learns`."""
        return self.attack.learns(self.variants)

    @property
    def views(self) -> list[View]:
        """Those of all variants, without the optional ones of a reference model where the run has none."""
        return [
            view
            for view in self.attack.views_over(self.variants)
            if view.name not in self.attack.optional or view.model == "target" or self.reference is not None
        ]

    @property
    def asked(self) -> frozenset[str]:
        """What statistics it asks for, there or not: names of views, and in which of them tokens are counted."""
        names = [] if self.left_out else [view.name for view in self.views if view.prompt is None]
        counted = [f"frequency of {name}" for name in names if "frequency" in self.attack.needs]
        return frozenset([*names, *counted])


def read_keys(config: Mapping[str, Any]) -> tuple[TaskKeys, dict[str, Any]]:
    """Takes our keys out of a YAML's content; what is left is the harness's.

    ``attack`` (an id of `ATTACKS`), ``split`` (an id of `SPLITS`; absent, or a name of your own, where
    ``dataset_path``, ``test_split``, ``doc_to_text`` and ``doc_to_target`` say where texts and labels are), and
    ``optional`` (inside a group: without what the attack needs, leave its row out instead of stopping).

    Raises:
        InputError: for an unknown attack, split, metric or option, or without the reference that the attack needs.
    """
    check_kinds(config)
    rest = {key: value for key, value in config.items() if key not in ("class", "attack", "split", "optional")}
    task = str(config["task"])
    attack = ATTACKS[_known("attack", config.get("attack", ""), ATTACKS)]
    split = _split(config)
    options = parse_options(config.get("metadata"))
    reference = _reference(options)
    metadata: Mapping[str, Any] = config.get("metadata") or {}
    names = _metric_names(config.get("metric_list")) or default_metrics(attack, split)
    in_group = bool(config.get("optional", False)) and not attack.picks
    metrics = tuple(name for name in names if _shows(attack, name) and not (in_group and name == "blind_auroc"))
    shown = [
        entry
        for entry in config.get("metric_list") or [{"metric": name} for name in names]
        if entry["metric"] in metrics
    ]
    keys = TaskKeys(
        task=task,
        attack=attack,
        split=split,
        split_name=split.name if split else str(config.get("split") or task.removeprefix(f"mia_{attack.name}_")),
        valid_for=split.valid_for
        if split
        else str(metadata.get("valid_for", "models that were trained on the members (unstated)")),
        options=options,
        reference=reference,
        left_out=_left_out(task, attack, options, reference, bool(config.get("optional", False))),
        metrics=metrics,
        shown=shown,
        blind="blind_auroc" in names and options.shard is None,
    )
    return keys, rest | {"output_type": "loglikelihood_rolling", "num_fewshot": 0, "metric_list": []}


def _split(config: Mapping[str, Any]) -> Split | None:
    """One of ours; None where the harness's keys say where the texts are, and ``split`` is but its name (which must not
    be nearly one of ours)."""
    name = config.get("split")
    own = isinstance(name, str) and bool(config.get("dataset_path")) and name not in SPLITS
    if name is None or (own and not nearest(name, SPLITS)):
        return None
    return SPLITS[_known("split", name, SPLITS)]


class _Kinds(BaseModel):
    """What the keys that are read here must be."""

    task: StrictStr
    metadata: dict[str, Any] | None = None
    optional: bool = False
    dataset_kwargs: dict[str, Any] | None = None
    test_split: StrictStr | None = None
    dataset_path: StrictStr | None = None
    dataset_name: StrictStr | None = None


def check_kinds(config: Mapping[str, Any]) -> None:
    """Fails where a key that midistill reads holds something else.

    Raises:
        InputError: with the key.
    """
    try:
        _Kinds.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"a MIA task's YAML key '{key}' is {first['input']!r}: {first['msg'].lower()}") from None


@contextmanager
def reading_yaml(keys: TaskKeys) -> Iterator[None]:
    """Within it the harness and datasets read a user's keys, and say what is wrong with them by any exception.

    Raises:
        InputError: in its place.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if keys.split is not None:
            raise
        raise InputError(
            f"{keys.task}: its YAML is no task that the harness takes ({reason(error)}); "
            "see 'Your own split' in the README"
        ) from error


def _known(what: str, given: Any, known: Mapping[str, Any]) -> str:
    name = str(given)
    if name not in known:
        raise InputError(f"a MIA task's YAML key '{what}' is '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return name


def _left_out(task: str, attack: Attack, options: Options, reference: str | None, optional: bool) -> str | None:
    lacks = [_no_option(attack, key) for key in attack.requires if options.attacks[attack.name][key] is None]
    if attack.needs_reference and reference is None:
        lacks.append(NO_REFERENCE)
    if attack.generates and options.shard is not None:
        lacks.append("has the model write texts, which statistics do not hold: run it without 'shard'")
    if not lacks:
        return None
    if not optional:
        raise InputError(f"{task} {lacks[0]}")
    warn_once(f"{task} is left out: it {lacks[0]}")
    return lacks[0]


def _no_option(attack: Attack, key: str) -> str:
    return f'needs {attack.fields[key][1].description}: --metadata \'{{"mia": {{"{key}": …}}}}\''


def default_metrics(attack: Attack, split: Split | None = None) -> tuple[str, ...]:
    """What a task shows that names no metrics."""
    names = (*DEFAULT_METRICS, *(split.metrics if split else ()), *attack.metrics)
    return tuple(name for name in names if _shows(attack, name))


def _shows(attack: Attack, metric: str) -> bool:
    """A decision by one threshold needs scores that compare among all texts."""
    return not attack.picks or metric in HALVES or metric == "blind_auroc"


def _metric_names(metric_list: Sequence[Mapping[str, Any]] | None) -> tuple[str, ...]:
    known = [*METRICS, "blind_auroc"]
    given = metric_list or []
    if not isinstance(given, list) or not all(isinstance(entry, dict) and "metric" in entry for entry in given):
        raise InputError(f"metric_list: entries look like '- metric: auroc'; a MIA task has {', '.join(known)}")
    names = tuple(str(entry["metric"]) for entry in given)
    for name in names:
        if name not in known:
            raise InputError(
                f"metric_list: a MIA task has no metric '{name}'{nearest(name, known)}; {', '.join(known)}"
            )
    return names


def _reference(options: Options) -> str | None:
    """The reference model as canonical JSON of its model_args, "base", or None."""
    reference = options.run.reference
    if reference is None or reference == "base":
        return reference
    spec = reference if isinstance(reference, dict) else {"pretrained": reference}
    return json.dumps(spec, sort_keys=True)
