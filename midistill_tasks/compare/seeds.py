"""A figure of one attack over the students of an arm, with an interval for other texts and other seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midistill_tasks.compare.verdict import seeds_areas
from midistill_tasks.metrics.estimate import Interval, share
from midistill_tasks.metrics.intervals import mean_auroc_interval, mean_half_width, quantile
from midistill_tasks.results.run import AttackResult


def over_seeds(results: Sequence[AttackResult], figure: str) -> Interval:
    """Mean over students with its 95 % interval, for other texts and, from three students on, other seeds.

    Of one student the interval of the figure itself. Of several, the AUROC has DeLong's covariances over the texts; the
    errors of the other figures are taken to go together, as if all students erred on the same texts, which is never too
    narrow. NaN limits where a figure has none.
    """
    if figure == "auroc":
        return mean_auroc_interval(seeds_areas(results))
    if len(results) == 1:
        return results[0].intervals[figure]
    single = [result.intervals[figure] for result in results]
    freedom = min(result.documents for result in results) - 1
    errors = np.array([(each.upper - each.lower) / 2 for each in single]) / quantile(freedom)
    values = np.array([each.value for each in single])
    half = mean_half_width(values, np.outer(errors, errors), freedom)
    mean = float(values.mean())
    return share(Interval(mean, mean - half, mean + half))
