"""What ``--metadata '{"mia": {…}}'`` may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from midistill_tasks.errors import InputError, nearest


class MIAOptions(BaseModel):
    """Options of the MIA tasks of a run; the same for all of them, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: float = Field(0.2, gt=0, le=1, description="mink, minkpp: share of the lowest-scoring tokens")
    shots: int = Field(2, ge=1, description="recall: non-members put in front of each text, never scored")
    reference: str | dict[str, Any] | None = Field(
        None, description="ref: the reference model, a path or model_args; 'base' = a PEFT target without its adapter"
    )
    first_token: Literal["skip", "prefix"] = Field(
        "skip", description="whether a text's first token is left out, or scored after the harness's prefix token"
    )
    as_published: bool = Field(
        False, description="recall: score the first token in the conditional term only, as the published code does"
    )
    n: int | None = Field(None, ge=2, description="texts per class, drawn with `seed`; all by default")
    seed: int = Field(0, ge=0, description="of the draw of texts")
    dataset_path: str | dict[str, str] | None = Field(
        None, description="a local copy of the data: a file or a folder, or a map from split to one"
    )
    log_text: bool = Field(True, description="false: samples_*.jsonl hold id and label, never the text")
    members: str | None = Field(None, description="files: a JSONL, CSV, Parquet or txt file of member texts")
    nonmembers: str | None = Field(None, description="files: the same for non-members")
    column: str = Field("text", description="files: the column that holds the text")
    independent_coins: bool = Field(
        False, description="you state that a fair coin of its own made each text a member or not: allows an epsilon"
    )
    ngram: str = Field("ngram_13_0.8", description="mimir: the n-gram filter of the non-members")


def parse_options(metadata: Mapping[str, Any] | None) -> MIAOptions:
    """Reads the options out of a task's merged metadata.

    The harness merges ``model_args``, ``--metadata`` and the YAML's metadata into one mapping, so it also holds keys of
    the model and of other tasks. Ours live under ``mia``; a known key is also accepted flat, and a flat near miss of
    one is refused, since it would otherwise be ignored in silence.

    Raises:
        InputError: for an unknown key under ``mia``, a flat near miss, or a value of the wrong type.
    """
    metadata = dict(metadata or {})
    known = MIAOptions.model_fields
    nested = metadata.pop("mia", None) or {}
    if not isinstance(nested, Mapping):
        raise InputError(f'--metadata key \'mia\' must hold an object such as {{"mia": {{"k": 0.3}}}}, not {nested!r}')
    for key in nested:
        if key not in known:
            raise InputError(
                f"--metadata 'mia' has no option '{key}'{nearest(str(key), known)}; it knows {', '.join(known)}"
            )
    flat = {key: value for key, value in metadata.items() if key in known and key not in SHARED_WITH_MODELS}
    for key in map(str, metadata):
        if key.partition(".")[0].casefold() == "mia":
            raise InputError(
                f'--metadata \'{key}\' is not read: MIA options stand in one object, {{"mia": {{"k": 0.3}}}}'
            )
        if key not in known and (hint := _near_miss(key, known)):
            raise InputError(
                f"--metadata '{key}' looks like the MIA option '{hint}'; write {{\"mia\": {{\"{hint}\": …}}}}"
            )
    try:
        options = MIAOptions(**{**flat, **nested})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"--metadata 'mia': option '{place}' {first['msg'].lower()}, got {first['input']!r}") from None
    if options.as_published and options.first_token == "prefix":
        raise InputError(
            "--metadata 'mia': 'as_published' scores the first token in the conditional term only; "
            "leave 'first_token' at 'skip' with it"
        )
    return options


SHARED_WITH_MODELS = frozenset({"seed"})
"""Names that backends use for arguments of their own (vLLM's `seed`): they count as ours only under ``mia``."""

_MISSPELLED_AT = 0.8


def _near_miss(key: str, known: Mapping[str, Any]) -> str | None:
    import difflib

    long_names = [name for name in known if len(name) > 3]
    close = difflib.get_close_matches(key, long_names, n=1, cutoff=_MISSPELLED_AT)
    return close[0] if close and len(key) > 3 else None
