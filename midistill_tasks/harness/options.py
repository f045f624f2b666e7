"""What ``--metadata '{"mia": {…}}'`` may hold: assembled from what attacks and splits declare, and strict."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from midistill_tasks.attacks import ATTACKS, Attack
from midistill_tasks.errors import InputError, nearest
from midistill_tasks.options import Fields, Strict, model_of
from midistill_tasks.splits import SPLITS, Split
from midistill_tasks.splits.options import TextOptions
from midistill_tasks.splits.shards import Shard, parse_shard
from midistill_tasks.splits.sources import FORMS, Source

Section = TypeVar("Section", bound=Strict)


class RunOptions(Strict):
    """Options of a run that belong to no split and to no single attack."""

    reference: str | dict[str, Any] | None = Field(
        None,
        description="ref, ez, wbc (these two: with the target's tokenizer): the reference model, a path or model_args; "
        "'base' = a PEFT target without its adapter",
    )
    corpus: Source | None = Field(
        None, description=f"dcpdd: texts whose tokens are counted, {FORMS}; all judged texts by default"
    )
    first_token: Literal["skip", "prefix"] = Field(
        "skip", description="whether a text's first token is left out, or scored after the harness's prefix token"
    )
    save_stats: str | None = Field(
        None, description="a folder for the statistics of all tokens, for `midistill attack` and `load_stats`"
    )
    shard: str | None = Field(
        None, description="a part of the split, such as 3/16, whose statistics alone are written: `midistill score`"
    )
    log_text: bool = Field(True, description="false: samples_*.jsonl hold id and label, never the text")


@dataclass(frozen=True)
class Options:
    """The options of a run, resolved.

    Attributes:
        run: what belongs to no split and no single attack.
        texts: which texts, without any split's own options.
        splits: split → its own options.
        attacks: attack → its options; of one that is swept the list of its values.
    """

    run: RunOptions
    texts: TextOptions
    splits: Mapping[str, Mapping[str, Any]]
    attacks: Mapping[str, Mapping[str, Any]]

    def of_split(self, split: Split | None) -> TextOptions:
        """Which texts of a split; None = one that a user's YAML describes."""
        own = self.splits[split.name] if split and split.fields else {}
        return self.texts.model_copy(update={"own": own})

    def variants(self, attack: str) -> dict[str, dict[str, Any]]:
        """The harness's filter → options: "none", or one for each value of what is swept, such as "k=0.1"."""
        given = self.attacks[attack]
        swept = [name for name, value in given.items() if isinstance(value, list)]
        combinations = product(*(given[name] for name in swept))
        return {
            " ".join(f"{name}={value}" for name, value in zip(swept, values, strict=True)) or "none": {
                **given,
                **dict(zip(swept, values, strict=True)),
            }
            for values in combinations
        }

    def flat(self, attack: str) -> dict[str, Any]:
        """Every option by its flat name, as results keep them: as this attack has it, or the first that has it."""
        found: dict[str, Any] = {}
        for values in (self.attacks[attack], *self.attacks.values(), *self.splits.values()):
            found = {**values, **found}
        return found | self.texts.model_dump(exclude={"own"}) | self.run.model_dump(exclude={"shard"})

    @property
    def shard(self) -> Shard | None:
        """The part of the split that is judged; None = all of it."""
        return None if self.run.shard is None else parse_shard(self.run.shard)


def known_options() -> dict[str, tuple[list[str], FieldInfo]]:
    """Every flat option: which attacks and splits have it (none = it is of all tasks alike), and its field."""
    shared = {
        name: (field.annotation, field)
        for section in (TextOptions, RunOptions)
        for name, field in section.model_fields.items()
        if name != "own"
    }
    found: dict[str, tuple[list[str], FieldInfo]] = {}
    owners: list[tuple[list[str], Fields]] = [([name], attack.fields) for name, attack in ATTACKS.items()]
    owners += [([], shared), *(([name], split.fields) for name, split in SPLITS.items())]
    for owner, fields in owners:
        for name, (_, field) in fields.items():
            found.setdefault(name, ([], field))[0].extend(owner)
    return found


def parse_options(metadata: Mapping[str, Any] | None) -> Options:
    """Reads the options out of a task's merged metadata.

    The harness merges ``model_args``, ``--metadata`` and the YAML's metadata into one mapping, so it also holds keys of
    the model and of other tasks. Ours live under ``mia``; a known key is also accepted flat, and a flat near miss of
    one is refused, since it would otherwise be ignored in silence. A key of ``mia`` reaches every attack and split that
    has an option of that name; under an attack's name it reaches that attack alone.

    Raises:
        InputError: for an unknown key under ``mia``, a flat near miss, or a value of the wrong type.
    """
    nested = _nested(metadata or {})
    given = _flat(metadata or {}) | {key: value for key, value in nested.items() if not _is_section(key, value)}
    sections = {key: value for key, value in nested.items() if _is_section(key, value)}
    attacks = {}
    for name, attack in ATTACKS.items():
        own = sections.get(name, {})
        for key in own:
            if key not in attack.fields:
                has = ", ".join(attack.fields) or "none"
                hint = nearest(str(key), attack.fields)
                raise InputError(f"--metadata 'mia': '{name}' has no option '{key}'{hint}; it has {has}")
        values = {key: value for key, value in given.items() if key in attack.fields} | own
        attacks[name] = _attack_options(attack, values, name if own else "")
    splits = {
        name: _checked(_model(split), {key: value for key, value in given.items() if key in split.fields}).model_dump()
        for name, split in SPLITS.items()
        if split.fields
    }
    run = _checked(RunOptions, {key: value for key, value in given.items() if key in RunOptions.model_fields})
    texts = _checked(TextOptions, {key: value for key, value in given.items() if key in TextOptions.model_fields})
    options = Options(run, texts, splits, attacks)
    _check_first_token(options)
    if options.shard is not None and run.save_stats is None:
        raise InputError(
            f"--metadata 'mia': 'shard' {options.shard} gives statistics and no figures: say where they are to be "
            f'written, {{"mia": {{"shard": "{options.shard}", "save_stats": "stats"}}}}'
        )
    return options


def _attack_options(attack: Attack, values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Its options; of one that is swept a list of its values, each as strict as one alone."""
    swept = {name: value for name, value in values.items() if isinstance(value, list)}
    for name, value in swept.items():
        if not value or attack.fitted:
            why = f"'{attack.name}' learns from labels, and takes one value" if value else "the list of values is empty"
            raise InputError(f"--metadata 'mia': option '{name}': {why}")
    single = {name: value for name, value in values.items() if name not in swept}
    found = _checked(_model(attack), single, section).model_dump()
    for name, value in swept.items():
        each = [_checked(_model(attack), {**single, name: one}, section).model_dump()[name] for one in value]
        found[name] = list(dict.fromkeys(each)) if len(set(each)) > 1 else each[0]
    return found


def _nested(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    nested = metadata.get("mia") or {}
    if not isinstance(nested, Mapping):
        raise InputError(f'--metadata key \'mia\' must hold an object such as {{"mia": {{"k": 0.3}}}}, not {nested!r}')
    known = known_options()
    for key, value in nested.items():
        if key not in known and not _is_section(key, value):
            raise InputError(
                f"--metadata 'mia' has no option '{key}'{nearest(str(key), [*known, *ATTACKS])}; "
                f"it knows {', '.join(known)}, and an attack's name for what reaches it alone"
            )
    return nested


def _is_section(key: Any, value: Any) -> bool:
    return isinstance(value, Mapping) and key in ATTACKS


def _flat(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Known keys that stand beside ``mia``."""
    known = known_options()
    for key in (str(key) for key in metadata if key != "mia"):
        if key.partition(".")[0].casefold() == "mia":
            raise InputError(
                f'--metadata \'{key}\' is not read: MIA options stand in one object, {{"mia": {{"k": 0.3}}}}'
            )
        if key not in known and (hint := _near_miss(key, known)):
            raise InputError(
                f"--metadata '{key}' looks like the MIA option '{hint}'; write {{\"mia\": {{\"{hint}\": …}}}}"
            )
    return {key: value for key, value in metadata.items() if key in known and key not in SHARED_WITH_MODELS}


@cache
def _model(owner: Attack | Split) -> type[Strict]:
    return model_of(owner.name, owner.fields)


def _checked(section: type[Section], values: Mapping[str, Any], attack: str = "") -> Section:
    try:
        return section(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in (*([attack] if attack else []), *first["loc"]))
        raise InputError(f"--metadata 'mia': option '{place}' {first['msg'].lower()}, got {first['input']!r}") from None


def _check_first_token(options: Options) -> None:
    for name, values in options.attacks.items():
        always = any(view.first_token == "always" for view in ATTACKS[name].views_over(options.variants(name)))
        if always and options.run.first_token == "prefix":
            chosen = ", ".join(
                f"'{key}'"
                for key, value in values.items()
                if any(one is True for one in (value if isinstance(value, list) else [value]))
            )
            raise InputError(
                f"--metadata 'mia': {chosen} of {name} scores the first token in one of its terms only; "
                "leave 'first_token' at 'skip' with it"
            )


SHARED_WITH_MODELS = frozenset({"seed"})
"""Names that backends use for arguments of their own (vLLM's `seed`): they count as ours only under ``mia``."""

_MISSPELLED_AT = 0.8


def _near_miss(key: str, known: Mapping[str, Any]) -> str | None:
    long_names = [name for name in known if len(name) > 3]
    close = difflib.get_close_matches(key, long_names, n=1, cutoff=_MISSPELLED_AT)
    return close[0] if close and len(key) > 3 else None
