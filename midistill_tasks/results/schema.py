"""The files that programs read: what we add to the harness's results and samples, as versioned JSON schemas.

A key is never taken away or given another meaning under one `SCHEMA_VERSION`; new ones may come. `midistill schema`
prints all of them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, StrictBool, StrictInt, StrictStr

SCHEMA_VERSION = 1


class Figure(BaseModel):
    """A value and its standard error; null where there is none."""

    value: float | None
    stderr: float | None = None


class Counts(BaseModel):
    """Texts that were left out, and those that are judged."""

    empty: StrictInt = Field(description="white space alone")
    duplicates: StrictInt = Field(description="the same text again on one side")
    both_sides: StrictInt = Field(description="rows whose text stands among members and non-members")
    shots: StrictInt = Field(description="non-members that are put in front of texts and never judged")
    unbalanced: StrictInt = Field(0, description="up to 0.1.0 the larger side was cut to the smaller one")
    members: StrictInt = Field(description="judged")
    nonmembers: StrictInt = Field(description="judged")
    unscored: StrictInt | None = Field(None, description="of these, texts without a score")
    common_part: StrictInt | None = Field(None, description="texts judged by the part that all views cover")
    truncated: StrictInt | None = Field(None, description="texts longer than the model reads at once")


class LeftOutMember(BaseModel):
    """A member that is not judged."""

    name: StrictStr = Field(description="by id_column, or file:row")
    reason: StrictStr


class TaskMetadata(BaseModel):
    """``configs.<task>.metadata.midistill`` of a results_<date>.json: how a MIA task's figures came about."""

    schema_version: StrictInt = Field(1, description="of this object; results before it had none")
    attack: StrictStr
    split: StrictStr
    valid_for: StrictStr = Field(description="the models for which the labels are true")
    independent_coins: StrictBool = Field(description="a fair coin of its own made each text a member or not")
    coins_after: StrictStr | None = Field(None, description="the largest id of the shots, where coins chose")
    learnt: StrictBool = Field(False, description="labels of the other half of the texts taught the score")
    chosen: list[StrictStr] = Field([], description="strongest: the attack by which each half is judged")
    likelihood: StrictStr = Field("", description="of what the scores are, where not of a causal model")
    blind_auroc: Figure | None = Field(None, description="of the split's bag-of-words baseline")
    options: dict[str, Any] = Field(description="every option by its flat name")
    counts: Counts
    unscored_reasons: dict[str, Any] = Field({}, description="why texts have no score → how many")
    members_left_out: list[LeftOutMember] = Field([], description="of the user's own files")
    members_left_out_more: StrictInt = Field(0, description="how many more than are listed")
    chance: dict[str, float] = Field({}, description="the TPRs of scores that say nothing")
    data_sha256: StrictStr = Field(description="of the sorted ids and labels of the judged texts")
    data_commits: dict[str, StrictStr] = Field({}, description="data set of the hub → commit")
    versions: dict[str, StrictStr]


class Sample(BaseModel):
    """``doc`` of a line of samples_mia_<attack>_<split>_<date>.jsonl."""

    id: StrictStr = Field(description="first 16 hex digits of the text's SHA-256")
    label: StrictInt = Field(ge=0, le=1, description="1 member, 0 non-member")
    cluster: StrictStr | None = Field(
        None, description="the document that the text came from; the id where there is none"
    )
    name: StrictStr | None = Field(None, description="the user's name of the text: by id_column, or file:row")
    group: StrictStr | None = Field(None, description="of a canary: how often it is repeated where it is inserted")
    text: StrictStr | None = Field(None, description="absent with log_text false")
    score: float | None = Field(description="higher = more likely a member; null = not scored; ±1.797…e308 = infinite")
    n_tokens: StrictInt = Field(0, description="tokens that were scored")
    truncated: StrictBool = Field(False, description="the text is longer than the model reads at once")
    blind_rank: float | None = Field(None, description="of the bag-of-words baseline, 0 to 1 within its fold")
    attack: StrictStr | None = Field(
        None, description="strongest: the attack whose score, as a rank of its half, this is"
    )
    half: StrictInt | None = Field(None, description="strongest: in which half the text is, 0 or 1")
    scores: dict[str, float | None] = Field({}, description="strongest: the score of each attack that it chooses among")
