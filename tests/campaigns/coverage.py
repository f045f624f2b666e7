"""Do printed intervals cover what they say, and are words of a page wrong as rarely as it says? By simulation.

    python tests/campaigns/coverage.py           # fixed seeds, a minute: CI runs it
    python tests/campaigns/coverage.py --long    # twenty times as many draws

Each line: the case, how often the truth lies below the interval (the figure overstates the leak) and above it. An
interval passes where it covers 93.5 % and misses by at most 3.5 % a side, both within 2.6 errors of the simulation.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from made_results import _task as make_task

from midistill_tasks.compare.epsilon import epsilon_lower_bound
from midistill_tasks.compare.verdict import ALPHA, Reduction, alone, holm, strongest_on
from midistill_tasks.metrics.blind import Blind, blind_auroc
from midistill_tasks.metrics.intervals import auroc_interval, tpr_interval

Miss = tuple[bool, bool]
"""Whether the truth lies below the interval, and above it."""


def scores(rng: np.random.Generator, area: float, members: int, others: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores of this AUROC, and their labels."""
    labels = np.r_[np.ones(members, dtype=int), np.zeros(others, dtype=int)]
    return labels, rng.normal(size=len(labels)) + labels * norm.ppf(area) * math.sqrt(2)


def auroc(area: float, n: int) -> Callable[[np.random.Generator], Miss]:
    def draw(rng: np.random.Generator) -> Miss:
        _, lower, upper = auroc_interval(*scores(rng, area, n, n))
        return lower > area, upper < area

    return draw


def tied(area: float, n: int) -> Callable[[np.random.Generator], Miss]:
    """Scores rounded to halves; the truth is that of the rounded scores."""
    shift = norm.ppf(area) * math.sqrt(2)
    edges = np.arange(-8, 8.5, 0.5)
    members, others = (np.diff(norm.cdf(edges + 0.25, loc=mean)) for mean in (shift, 0))
    below = np.cumsum(others) - others
    truth = float(members @ (below + others / 2))

    def draw(rng: np.random.Generator) -> Miss:
        labels, values = scores(rng, area, n, n)
        _, lower, upper = auroc_interval(labels, np.round(values * 2) / 2)
        return lower > truth, upper < truth

    return draw


def clustered(area: float, documents: int) -> Callable[[np.random.Generator], Miss]:
    """Four texts a document, half of the variance between documents."""

    def draw(rng: np.random.Generator) -> Miss:
        labels = np.repeat(np.arange(2 * documents) % 2, 4)
        shared = np.repeat(rng.normal(size=2 * documents), 4)
        values = math.sqrt(0.5) * (shared + rng.normal(size=len(labels))) + labels * norm.ppf(area) * math.sqrt(2)
        names = [str(number) for number in np.repeat(np.arange(2 * documents), 4)]
        _, lower, upper = auroc_interval(labels, values, names)
        return lower > area, upper < area

    return draw


def tpr(area: float, bound: float, n: int) -> Callable[[np.random.Generator], Miss]:
    truth = float(norm.sf(norm.isf(bound) - norm.ppf(area) * math.sqrt(2)))

    def draw(rng: np.random.Generator) -> Miss:
        lower, upper = tpr_interval(*scores(rng, area, n, n), bound)
        return lower > truth, upper < truth

    return draw


def accuracy(figure: str, area: float, n: int) -> Callable[[np.random.Generator], Miss]:
    """Against its own mean over draws: the rule is chosen on half of the texts, so no population has another truth."""
    rng = np.random.default_rng(99)
    truth = float(np.mean([make_task(*scores(rng, area, n, n)).measured[figure].value for _ in range(60)]))

    def draw(rng: np.random.Generator) -> Miss:
        found = make_task(*scores(rng, area, n, n)).intervals[figure]
        return found.lower > truth, found.upper < truth

    return draw


def difference(seeds: int, n: int = 231, scatter: float = 0.15) -> Callable[[np.random.Generator], Miss]:
    """Teacher and students share three quarters of their scores' variance; students' shifts differ by their seed."""
    shifts = np.linspace(0.6 - 2 * scatter, 0.6 + 2 * scatter, 201)
    weights = norm.pdf(shifts, 0.6, scatter)
    truth = float(norm.cdf(1.0 / math.sqrt(2)) - weights @ norm.cdf(shifts / math.sqrt(2)) / weights.sum())

    def draw(rng: np.random.Generator) -> Miss:
        labels = np.arange(2 * n) % 2
        shared = rng.normal(size=2 * n)

        def task(shift: float):
            return make_task(labels, math.sqrt(0.75) * shared + 0.5 * rng.normal(size=2 * n) + shift * labels)

        chosen = rng.choice(shifts, seeds, p=weights / weights.sum())
        found = Reduction([task(1.0)], [task(shift) for shift in chosen]).at()
        # Of one student the interval speaks of that student alone.
        own = truth if seeds > 2 else float(norm.cdf(1.0 / math.sqrt(2)) - norm.cdf(chosen / math.sqrt(2)).mean())
        return found.lower > own, found.upper < own

    return draw


def words(n: int, members: float = 0.6, others: float = 0.2) -> Callable[[np.random.Generator], bool]:
    """Whether an attack that tells as much as the blind baseline does, on average, is said to beat it.

    A word that members have more often drives both, so that their errors go together.
    """
    vocabulary = [f"word{number}" for number in range(100)]

    def split(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Blind]:
        labels = np.arange(2 * n) % 2
        marked = rng.random(2 * n) < np.where(labels, members, others)
        texts = [" ".join([*rng.choice(vocabulary, 20), *["marker"] * int(had)]) for had in marked]
        return labels, marked, blind_auroc(texts, labels)

    rng = np.random.default_rng(98)
    truth = float(np.mean([split(rng)[2].value for _ in range(200)]))
    apart, back = members * (1 - others), (1 - members) * others

    def excess(weight: float) -> float:
        return (apart - back) * (float(norm.cdf(weight / math.sqrt(2))) - 0.5) + 0.5 - truth

    weight = float(brentq(excess, 0, 20))

    def draw(rng: np.random.Generator) -> bool:
        labels, marked, blind = split(rng)
        task = make_task(labels, weight * marked + rng.normal(size=2 * n), blind=blind[:2])
        task = replace(task, blind_ranks=tuple(blind.ranks))
        return strongest_on("model", [{"loss": task}]).beats_words

    return draw


def null_page(rng: np.random.Generator) -> bool:
    """Whether a page of ten models that leak nothing, six attacks and two splits says "leaks" anywhere."""
    p = []
    for _ in range(2):
        labels = np.arange(200) % 2
        shared = rng.normal(size=200)
        for _ in range(10):
            tasks = {str(a): make_task(labels, shared + rng.normal(size=200), independent_coins=True) for a in range(6)}
            p.append(alone("model", [tasks])[2])
    return any(value <= ALPHA for value in holm(p))


def response(eps: float, delta: float, n: int = 400) -> Callable[[np.random.Generator], bool]:
    """Whether the bound lies above the truth on randomised response, which betrays a text wholly with chance δ."""
    truth = math.exp(eps) / (1 + math.exp(eps))

    def draw(rng: np.random.Generator) -> bool:
        right = (rng.random(n) < truth) | (rng.random(n) < delta)
        return epsilon_lower_bound(int(right.sum()), n, delta=delta, texts=n) > eps

    return draw


def noise(sigma: float, delta: float, eps: float, n: int = 400) -> Callable[[np.random.Generator], bool]:
    """The same on the Gaussian mechanism of sensitivity 1, which is (eps, delta)-DP; guesses by the sign."""

    def draw(rng: np.random.Generator) -> bool:
        coins = rng.integers(0, 2, n)
        values = coins + sigma * rng.normal(size=n)
        order = np.argsort(values)
        right = (coins[order[: n // 10]] == 0).sum() + (coins[order[-(n // 10) :]] == 1).sum()
        return epsilon_lower_bound(int(right), 2 * (n // 10), delta=delta, texts=n) > eps

    return draw


def gaussian_epsilon(sigma: float, delta: float) -> float:
    """Balle and Wang, ICML 2018: the smallest ε at which the Gaussian mechanism of sensitivity 1 has this δ."""
    low, high = 0.0, 100.0
    for _ in range(100):
        eps = (low + high) / 2
        reached = norm.cdf(1 / (2 * sigma) - eps * sigma) - math.exp(eps) * norm.cdf(-1 / (2 * sigma) - eps * sigma)
        low, high = (eps, high) if reached > delta else (low, eps)
    return high


def intervals() -> Iterator[tuple[str, Callable[[np.random.Generator], Miss], int]]:
    for area in (0.5, 0.8, 0.95, 0.99):
        for n in (100, 231):
            yield f"AUROC {area}, {n} texts a side", auroc(area, n), 400
    yield "AUROC 0.8 with ties, 100 a side", tied(0.8, 100), 400
    for documents in (15, 30):
        yield f"AUROC 0.8, {documents} documents of four texts a side", clustered(0.8, documents), 400
    yield "TPR at 1 % FPR, AUROC 0.8, 500 a side", tpr(0.8, 0.01, 500), 400
    yield "TPR at 1 % FPR, AUROC 0.95, 1000 a side", tpr(0.95, 0.01, 1000), 200
    yield "balanced accuracy, AUROC 0.7, 100 a side", accuracy("balanced_acc", 0.7, 100), 60
    for seeds in (1, 3, 5, 10):
        yield f"reduction of the leak, {seeds} seeds", difference(seeds), 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="twenty times as many draws")
    times = 20 if parser.parse_args().long else 1
    failed = []
    for name, draw, draws in intervals():
        rng = np.random.default_rng(1)
        below, above = np.mean([draw(rng) for _ in range(draws * times)], axis=0)
        slack = 2.6 / math.sqrt(draws * times)
        ok = below + above <= 0.065 + slack * 0.25 and max(below, above) <= 0.035 + slack * 0.19
        failed += [] if ok else [name]
        print(
            f"{'' if ok else 'FAILED '}{name}: truth below {below:.1%}, above {above:.1%} ({draws * times})", flush=True
        )
    shares = [
        ("an attack as good as words is said to beat them, 100 texts a side", words(100), 200, 0.025),
        ("a null page of ten models, six attacks, two splits says 'leaks'", null_page, 20, 0.05),
        ("ε above the truth, randomised response, ε 1", response(1.0, 0.0), 400, 0.05),
        ("ε above the truth, randomised response, ε 1, δ 1e-5", response(1.0, 1e-5), 400, 0.05),
        ("ε above the truth, Gaussian mechanism, δ 1e-5", noise(1.0, 1e-5, gaussian_epsilon(1.0, 1e-5)), 400, 0.05),
    ]
    for name, wrong, draws, level in shares:
        rng = np.random.default_rng(2)
        share = float(np.mean([wrong(rng) for _ in range(draws * times)]))
        ok = share <= level + 2.6 * math.sqrt(level * (1 - level) / (draws * times))
        failed += [] if ok else [name]
        print(f"{'' if ok else 'FAILED '}{name}: {share:.1%} ({draws * times})", flush=True)
    return len(failed) > 0


if __name__ == "__main__":
    raise SystemExit(main())
