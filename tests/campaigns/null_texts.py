"""All attacks on texts that no model has seen, for `coverage.py`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from made_results import _task as make_task

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.compare.verdict import alone
from midistill_tasks.metrics.crossfit import crossfit_scores
from midistill_tasks.options import defaults
from midistill_tasks.views import TokenStats

Rng = np.random.Generator
SCORED = {name: attack for name, attack in ATTACKS.items() if not (attack.generates or attack.requires)}


def null_of_all_attacks(rng: Rng) -> bool:
    """Whether all attacks together, on texts that no model has seen, say "leaks"."""
    labels = np.arange(200) % 2
    hard = rng.normal(2.5, 0.5, 200)
    texts = [dict(null_views(rng, float(level))) for level in hard]
    tasks = {}
    for name, attack in SCORED.items():
        options = defaults(attack.fields)
        if attack.fitted:
            rows = [attack.features({view.name: text[view.name] for view in attack.views}, options) for text in texts]
            found = crossfit_scores(rows, make_task(labels, labels).items)
        else:
            found = np.array([attack.score(text, options) for text in texts])
        tasks[name] = make_task(labels, found, attack=name, independent_coins=True, learnt=attack.fitted)
    return alone("model", [tasks])[0] == "leaks"


def null_views(rng: Rng, hard: float, tokens: int = 24) -> Iterator[tuple[str, TokenStats]]:
    """Every view of one text: the same token losses, each view with noise of its own."""
    losses = rng.gamma(2.0, hard / 2, tokens)
    ids, often = rng.integers(0, 12, tokens), rng.random(tokens) * 0.1
    for view in {view.name: view for attack in SCORED.values() for view in attack.views}:
        own = np.maximum(losses + rng.normal(0, 0.3, tokens), 0.01)
        yield (
            view,
            TokenStats(
                -own.astype(np.float32),
                greedy=rng.random(tokens) < np.exp(-own),
                mean=-rng.gamma(2.0, 1.0, tokens).astype(np.float32),
                std=rng.gamma(3.0, 0.5, tokens).astype(np.float32),
                words="w" * tokens,
                tokens=ids,
                frequency=often.astype(np.float32),
                gradient=np.full((3, 3), rng.exponential(), dtype=np.float32),
                ends=lambda: list(range(1, tokens + 1)),
            ),
        )
