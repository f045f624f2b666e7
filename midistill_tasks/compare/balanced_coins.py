"""The texts that ε is bounded on where midistill 0.1.0 wrote the results: it cut the larger side to the smaller one.

After the coins were tossed, the first non-members of the split were taken out as shots, and a side was cut. On what is
left the labels are no longer independent coins: their sum is fixed, and a text that is missing tells of its label. So
the guesses are made on a set E of N − 5√N texts drawn uniformly out of all N that had a coin: a draw that knows no
label, whence the labels in E are fair coins, also given all others. E is drawn in two steps, which need only what was
scored: how many members and shots a uniform draw contains (hypergeometric), then which ones. A side was cut by a draw
of its own, so a uniform draw among the scored texts of that side is a uniform draw among all of that side. Texts of E
that have no score because they were taken out count as *wrong* guesses: wherever they ranked, the number of right
guesses could not have been smaller. E leaves out 5√N texts to make that rare: the two sides differ by √N. Which side
was cut the files do not say; both are tried, and the fewer right guesses count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from midistill_tasks.metrics.scored import BoolArray, FloatArray
from midistill_tasks.results.run import AttackResult


def right_guesses(result: AttackResult, share: float) -> tuple[int, int, int]:
    """Right guesses, guesses (`share` of E on either side), and the size of E."""
    counts: Mapping[str, int] = result.metadata["counts"]
    cut = counts.get("unbalanced", 0)
    tossed = counts["members"] + counts["nonmembers"] + cut + counts["shots"]
    size = int(tossed - 5 * math.sqrt(tossed))
    each_side = int(share * size)
    # The coins fell for as many members as were scored, or for as many more as were cut from the larger side.
    sides = dict.fromkeys((counts["members"], counts["members"] + cut))
    return min(_right(result, tossed, members, size, each_side) for members in sides), 2 * each_side, size


def _right(result: AttackResult, tossed: int, members: int, size: int, each_side: int) -> int:
    """Right guesses among the `each_side` highest and lowest scores of E, if the coins fell for so many members."""
    labels, scores, missing = _draw(result, tossed, members, size)
    kept = ~np.isnan(scores)  # no score by the text or the model, whatever the label: the guesser abstains
    labels, scores = labels[kept], scores[kept]
    rising = labels[np.argsort(scores, kind="stable")]
    lowest = rising[: max(0, each_side - missing[1])]
    highest = rising[::-1][: max(0, each_side - missing[0])]
    return int((~lowest).sum() + highest.sum())


def _draw(result: AttackResult, tossed: int, members: int, size: int) -> tuple[BoolArray, FloatArray, tuple[int, int]]:
    """E without its unscored texts: labels and scores by id, and how many non-members and members lack."""
    rng = np.random.default_rng(0)  # the guesser's own randomness, the same whatever the labels and the model
    order = rng.permutation(len(result.items))
    shots = result.metadata["counts"]["shots"]
    wanted_members = int(rng.hypergeometric(members, tossed - members, size))
    wanted_others = size - wanted_members
    shots_in = int(rng.hypergeometric(shots, tossed - members - shots, wanted_others)) if shots else 0
    chosen_members = order[result.labels[order]][:wanted_members]
    chosen_others = order[~result.labels[order]][: wanted_others - shots_in]
    chosen = np.sort(
        np.concatenate([chosen_members, chosen_others])
    )  # by id, a hash of the text: so ties fall at random
    missing = (wanted_others - len(chosen_others), wanted_members - len(chosen_members))
    return result.labels[chosen], result.scores[chosen], missing
