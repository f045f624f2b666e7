"""What a run of the harness says of one model, as far as it concerns us: types only, `reader` fills them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midistill_tasks.errors import InputError
from midistill_tasks.metrics import METRICS, Scored, intervals
from midistill_tasks.metrics.crossfit import VARIANCE
from midistill_tasks.metrics.estimate import Estimate, Interval, share
from midistill_tasks.metrics.redrawn import majority
from midistill_tasks.metrics.roc import TPR_BOUNDS
from midistill_tasks.metrics.scored import BoolArray, FloatArray
from midistill_tasks.metrics.thresholds import crossfit_decisions, voted_accuracies

FIGURES = ("auroc", "tpr_at_1pct_fpr", "tpr_at_0.1pct_fpr", "balanced_acc", "member_acc", "nonmember_acc")
"""What `AttackResult.measured` holds, in the order of the tables."""


class Utility(NamedTuple):
    """A figure of a task that is not a membership-inference attack."""

    task: str
    metric: str
    value: float
    stderr: float
    higher_is_better: bool

    @property
    def estimate(self) -> Estimate:
        """The value with its standard error."""
        return Estimate(self.value, self.stderr)


@dataclass(frozen=True)
class AttackResult:
    """One attack on one model (or on an ensemble) over one split.

    Attributes:
        name: of the task, ``mia_<attack>_<split>``.
        version: of the task, as the harness writes it.
        path: the file of samples.
        items: the texts by rising id; two results on the same texts have them in the same order.
        texts: by id, in the order of the file; empty where the run kept them out (``log_text`` false).
        figures: as they stand in the harness's table; `measured` has those that every attack has.
        metadata: what the run says under ``metadata.midistill``.
        blind_ranks: see `metrics.blind.Blind.ranks`, in the order of `items`; empty or NaN where they are not known.
        names: what the user calls the texts, by id; empty where the run has none.
        groups: of canaries: how often each is repeated, by id; empty elsewhere.
        voters: of an ensemble's vote, whose decisions it counts; empty where it decides by its own scores.
    """

    name: str
    attack: str
    split: str
    version: str
    path: Path
    items: tuple[Scored, ...]
    texts: Mapping[str, str]
    figures: Mapping[str, Estimate]
    metadata: Mapping[str, Any]
    blind_ranks: tuple[float, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    voters: tuple[AttackResult, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, Scored]:
        """The texts by their id."""
        return {item.id: item for item in self.items}

    @cached_property
    def labels(self) -> BoolArray:
        """True = member, [n]."""
        return np.array([item.label == 1 for item in self.items], dtype=np.bool_)

    @cached_property
    def scores(self) -> FloatArray:
        """Higher = more likely a member, NaN = not scored, [n]."""
        return np.array([item.score for item in self.items], dtype=np.float64)

    @cached_property
    def clusters(self) -> list[str]:
        """The document of each text, [n]."""
        return [item.cluster for item in self.items]

    @cached_property
    def decisions(self) -> BoolArray:
        """Which texts are called members, [n]: by a threshold chosen without the text, or by an ensemble's vote.

        A text without a score is not called a member.

        Raises:
            InputError: where there are too few scored texts of a class to choose a threshold on.
        """
        if self.voters:
            return majority(np.stack([voter.decisions for voter in self.voters]))
        try:
            return crossfit_decisions(self.items)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None

    @property
    def deciding(self) -> FloatArray:
        """The scores behind its decisions: its own, or those of each voter, [V, n]."""
        return np.stack([voter.scores for voter in self.voters or (self,)])

    @cached_property
    def measured(self) -> dict[str, Estimate]:
        """The `FIGURES` with their standard errors, from the samples; NaN where the sample is too small for one.

        Raises:
            InputError: as `decisions`.
        """
        measured: dict[str, Estimate] = {}
        for name in FIGURES[:3]:
            metric = METRICS[name]
            stderr = as_number(metric.stderr(self.items)) if metric.stderr else math.nan
            stderr *= math.sqrt(self.variance) if name == "auroc" else 1.0
            measured[name] = Estimate(metric.value(self.items), stderr)
        judged = voted_accuracies(self.items, self.decisions, self.deciding)
        return measured | {
            "balanced_acc": judged.balanced,
            "member_acc": judged.member,
            "nonmember_acc": judged.nonmember,
        }

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The `FIGURES` with their 95 % limits; NaN limits where the sample is too small for them.

        Raises:
            InputError: as `decisions`.
        """
        limits: dict[str, Interval] = {
            "auroc": intervals.auroc_interval(self.labels, self.scores, self.clusters, variance=self.variance)
        }
        for name, bound in TPR_BOUNDS.items():
            value = self.measured[name].value
            limits[name] = Interval(value, *intervals.tpr_interval(self.labels, self.scores, bound, self.clusters))
        for name in FIGURES[3:]:
            value, stderr = self.measured[name]
            half = intervals.quantile(self.documents - 1) * stderr
            limits[name] = share(Interval(value, value - half, value + half))
        return limits

    @cached_property
    def documents(self) -> int:
        """How many documents the scored texts of the smaller class come from."""
        scored = [item for item in self.items if not math.isnan(item.score)]
        return min(len({item.cluster for item in scored if item.label == label}) for label in (0, 1))

    @property
    def variance(self) -> float:
        """Factor on the variance of its AUROC: above 1 where the scores were learnt from labels, as decisions are."""
        return VARIANCE if self.metadata.get("learnt") or self.voters else 1.0

    @property
    def constant(self) -> bool:
        """Whether all texts have the same score, so that nothing was measured."""
        scores = self.scores[~np.isnan(self.scores)]
        return bool(len(scores)) and bool((scores == scores[0]).all())

    @property
    def blind(self) -> Estimate:
        """The blind baseline's AUROC on this split; NaN where the run has none."""
        shown: Mapping[str, Any] = self.metadata.get("blind_auroc") or {}
        kept = Estimate(as_number(shown.get("value")), as_number(shown.get("stderr")))
        return self.figures.get("blind_auroc", kept)


class Published(NamedTuple):
    """The row to publish: the strongest attack, chosen on one half of the texts and judged on the other, both ways.

    Attributes:
        task: ``mia_strongest_<split>``.
        auroc, tpr: the second at 1 % FPR; means over both halves, with their errors.
        blind: the blind baseline's AUROC.
        attacks: by which the halves are judged.
    """

    task: str
    auroc: Estimate
    tpr: Estimate
    blind: Estimate
    attacks: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """One evaluation of one model.

    Attributes:
        model: its name, as given to the harness.
        path: the results file.
        date: of the run, as in the file's name; sorts by time.
        tasks: the attacks that gave enough scores to be judged, by task name; empty where none did.
        skipped: task name → why it has no figures: no text has a score, or too few have.
        published: split → the row to publish, of its ``mia_strongest_<split>``.
        utility: the other tasks' figures, by ``task/metric``.
        versions: of the packages.
        config: how the harness was called: model, model_args, batch size, device, seeds, number of parameters.
    """

    model: str
    path: Path
    date: str
    tasks: Mapping[str, AttackResult]
    skipped: Mapping[str, str]
    utility: Mapping[str, Utility]
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    published: Mapping[str, Published] = field(default_factory=dict)

    @property
    def splits(self) -> list[str]:
        """The splits that its attacks ran on, in the order of its tasks."""
        return list(dict.fromkeys(result.split for result in self.tasks.values()))

    @property
    def why_unusable(self) -> str:
        """What to say of a run without `tasks`."""
        name, reason = next(iter(self.skipped.items()))
        return f"no MIA task has enough scores to be judged; {name}: {reason}"

    def on(self, split: str) -> dict[str, AttackResult]:
        """Its results on a split, by attack."""
        return {result.attack: result for result in self.tasks.values() if result.split == split}


def as_number(value: Any) -> float:
    """A figure of the harness's table; NaN for its words, such as "N/A"."""
    try:
        return float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:  # a whole number beyond them
        return math.inf


@dataclass(frozen=True)
class TextFigures:
    """What a teacher and its student make of one text: sums over its tokens; a hit is a token that is the teacher's
    arg-max."""

    id: str
    cluster: str
    label: int
    loss: float
    """Mean −log p of the teacher, in nats."""
    tokens: int
    hits: int
    teacher_p: float
    """Sum over the hits of the teacher's probability of the token."""
    student_p: float
    student_entropy: float
    """Sum over the hits of the entropy of the student's distribution, in nats."""
