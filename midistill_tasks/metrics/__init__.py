"""What a membership-inference attack achieved: AUROC, TPR at a low FPR, accuracies, each with its standard error.

The blind baseline (`blind.blind_auroc`) stands apart: it needs texts, not scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.metrics import intervals, roc, thresholds
from midistill_tasks.metrics.crossfit import variance_of
from midistill_tasks.metrics.dataset import dataset_p_value
from midistill_tasks.metrics.epsilon import FEWEST, epsilon_lower
from midistill_tasks.metrics.estimate import Z95, Estimate
from midistill_tasks.metrics.exposure import exposure
from midistill_tasks.metrics.scored import Scored, as_scored, columns

__all__ = ["METRICS", "Metric", "Scored", "as_scored"]

_Figure = Callable[[Sequence[Scored]], float]


class Metric(NamedTuple):
    """A figure of the table.

    Attributes:
        name: as the table of a MIA task shows it; the harness knows it as ``mia_<name>``.
        value: from all texts of a task; NaN, with one warning, where it is not defined.
        stderr: its standard error, or the harness's "N/A" where that is not defined; None where there is none at all.
        higher_is_better: False where less is more private, None where neither direction is.
        description: one line for people.
    """

    name: str
    value: Callable[[Sequence[Scored]], float]
    stderr: Callable[[Sequence[Scored]], float | str] | None
    higher_is_better: bool | None
    description: str


def _metric(
    name: str, needs: str, value: _Figure, stderr: _Figure | None, higher_is_better: bool | None, description: str
) -> Metric:
    """Makes what a sample is too small for into NaN with a warning that names what it `needs`, and into "N/A"."""

    def value_or_warn(items: Sequence[Scored]) -> float:
        figure = _or_nan(value, items)
        if math.isnan(figure):
            members, nonmembers = (sum(i.label == side and not math.isnan(i.score) for i in items) for side in (1, 0))
            warn_once(f"{name} is NaN: it needs {needs}, not {members} members and {nonmembers} non-members")
        return figure

    def stderr_or_na(items: Sequence[Scored]) -> float | str:
        error = math.nan if stderr is None else _or_nan(stderr, items)
        return "N/A" if math.isnan(error) else error

    return Metric(name, value_or_warn, None if stderr is None else stderr_or_na, higher_is_better, description)


def _or_nan(figure: _Figure, items: Sequence[Scored]) -> float:
    try:
        return figure(items)
    except InputError:
        return math.nan


def _tpr(percent: str) -> Metric:
    bound = float(percent) / 100

    def value(items: Sequence[Scored]) -> float:
        labels, scores, _ = columns(items)
        return roc.tpr_at_fpr(labels, scores, bound)

    def stderr(items: Sequence[Scored]) -> float:
        lower, upper = intervals.tpr_interval(*columns(items)[:2], bound, columns(items)[2])
        return (upper - lower) / (2 * Z95)

    return _metric(
        f"tpr_at_{percent}pct_fpr",
        f"scored members and at least {round(1 / bound)} scored non-members",
        value,
        stderr,
        False,
        f"share of members caught while at most {percent} % of the scored non-members are accused",
    )


@lru_cache(maxsize=1)
def _crossfit(items: tuple[Scored, ...]) -> thresholds.Accuracies:
    """The three accuracies are asked for one by one, of the same texts."""
    return thresholds.crossfit_accuracies(items)


def _accuracy(part: str, higher_is_better: bool | None, description: str) -> Metric:
    def value(items: Sequence[Scored]) -> float:
        judged = thresholds.accuracies(items, thresholds.crossfit_decisions(items))
        return float(getattr(judged, part).value)

    def stderr(items: Sequence[Scored]) -> float:
        return float(getattr(_crossfit(tuple(items)), part).stderr)

    return _metric(
        f"{part}_acc",
        "scored texts of both classes in each of the two halves",
        value,
        stderr,
        higher_is_better,
        description,
    )


def _verbatim(side: str, higher_is_better: bool | None, description: str) -> Metric:
    """Of scores whose largest value, 1, says that the whole text came back."""

    def shares(items: Sequence[Scored]) -> Estimate:
        return thresholds.share_at_least(items, side == "members", 1.0)

    return _metric(
        f"verbatim_{side}",
        f"scored {side}",
        lambda items: shares(items).value,
        lambda items: shares(items).stderr,
        higher_is_better,
        description,
    )


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _metric(
            "auroc",
            "scored texts of both classes",
            lambda items: roc.auroc(*columns(items)[:2]),
            lambda items: roc.delong_stderr(*columns(items)) * math.sqrt(variance_of(items)),
            None,
            "chance that a member scores above a non-member; 0.5 = no leak, 0.3 leaks as well as 0.7: no direction",
        ),
        _tpr("1"),
        _tpr("0.1"),
        _accuracy("balanced", False, "mean of member_acc and nonmember_acc, threshold cross-fitted; 0.5 = no leak"),
        _accuracy("member", False, "share of members called members, threshold cross-fitted"),
        _accuracy(
            "nonmember",
            None,
            "share of non-members not called members; trades with member_acc through the threshold: no direction",
        ),
        _metric(
            "balanced_acc_oracle",
            "scored texts of both classes",
            lambda items: thresholds.accuracies(items, thresholds.oracle_decisions(items)).balanced.value,
            None,
            False,
            "the same at the threshold chosen on the judged texts, as papers report it: too high, hence without error",
        ),
        _verbatim(
            "members", False, "share of members whose second half greedy decoding gives back word for word (extraction)"
        ),
        _verbatim("nonmembers", None, "the same share of non-members: what can be guessed without having seen it"),
        _metric(
            "dataset_p_value",
            "scored documents of both classes in each half, two of each in the judged one",
            dataset_p_value,
            None,
            None,
            "chance of so large a difference between the sides in one half, its direction learnt on the other, if the "
            "data set was not trained on; means something only where both sides are of one distribution",
        ),
        _metric(
            "epsilon_lower",
            f"one text a document, and {FEWEST} of them and half of all scored",
            epsilon_lower,
            None,
            False,
            "training is (ε, 0)-differentially private for no ε below this, with 95 % confidence; 0 = no evidence; "
            "only where a fair coin of its own made each text a member",
        ),
        _metric(
            "exposure",
            "scored texts of both classes",
            lambda items: exposure(items).value,
            lambda items: exposure(items).stderr,
            False,
            "bits: log2 of the number of candidates (a member and all non-members) minus log2 of the member's rank, "
            "mean over members; 1.44 = no leak",
        ),
    )
}
"""In the order of the table."""
