"""Do printed intervals cover what they say, and are words of a page wrong as rarely as it says? By simulation.

    python tests/campaigns/coverage.py           # fixed seeds, a minute: CI runs it
    python tests/campaigns/coverage.py --long    # more cases, twenty times as many draws: an hour
    python tests/campaigns/coverage.py --only reduction

Each line of an interval: how often the truth lies below it (the figure overstates the leak) and above it, and how wide
it is beside ± 1.96 standard deviations of the figure over draws. It passes where it covers 93.5 % and misses by at most
3.5 % a side, both within 2.6 errors of the simulation, and is no wider than 1.2 times that, or than the case allows.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one case per core

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from made_results import _task as make_task
from null_texts import null_of_all_attacks
from stopped import BEST, better_is_found, stopped_before_the_best, stopped_is_told_apart

from midistill_tasks.compare.verdict import ALPHA, Reduction, alone, holm, strongest_on
from midistill_tasks.metrics import METRICS
from midistill_tasks.metrics.blind import Blind, blind_auroc
from midistill_tasks.metrics.crossfit import VARIANCE, crossfit_scores
from midistill_tasks.metrics.epsilon import epsilon_lower_bound
from midistill_tasks.metrics.estimate import Z95, Interval
from midistill_tasks.metrics.intervals import auroc_interval, tpr_interval
from midistill_tasks.metrics.roc import auroc as plain_auroc
from midistill_tasks.metrics.roc import tpr_at_fpr

Drawn = tuple[float, Interval]
"""The truth, and the figure with its limits."""
Rng = np.random.Generator


def scores(rng: Rng, area: float, members: int, others: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores of this AUROC, and their labels."""
    labels = np.r_[np.ones(members, dtype=int), np.zeros(others, dtype=int)]
    return labels, rng.normal(size=len(labels)) + labels * norm.ppf(area) * math.sqrt(2)


def auroc(area: float, members: int, others: int) -> Callable[[Rng], Drawn]:
    def draw(rng: Rng) -> Drawn:
        return area, auroc_interval(*scores(rng, area, members, others))

    return draw


def tied(area: float, n: int) -> Callable[[Rng], Drawn]:
    """Scores rounded to halves; the truth is that of the rounded scores."""
    shift = norm.ppf(area) * math.sqrt(2)
    edges = np.arange(-8, 8.5, 0.5)
    members, others = (np.diff(norm.cdf(edges + 0.25, loc=mean)) for mean in (shift, 0))
    below = np.cumsum(others) - others
    truth = float(members @ (below + others / 2))

    def draw(rng: Rng) -> Drawn:
        labels, values = scores(rng, area, n, n)
        return truth, auroc_interval(labels, np.round(values * 2) / 2)

    return draw


def clustered(area: float, documents: int) -> Callable[[Rng], Drawn]:
    """Four texts a document, half of the variance between documents."""

    def draw(rng: Rng) -> Drawn:
        labels = np.repeat(np.arange(2 * documents) % 2, 4)
        shared = np.repeat(rng.normal(size=2 * documents), 4)
        values = math.sqrt(0.5) * (shared + rng.normal(size=len(labels))) + labels * norm.ppf(area) * math.sqrt(2)
        names = [str(number) for number in np.repeat(np.arange(2 * documents), 4)]
        return area, auroc_interval(labels, values, names)

    return draw


def learnt(area: float, n: int, features: int = 10) -> Callable[[Rng], Drawn]:
    """Scores that a regression makes of features of this AUROC each, half of whose variance is in common."""

    def measured(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(2 * n) % 2
        noise = rng.normal(size=(2 * n, 1)) + rng.normal(size=(2 * n, features))
        table = noise / math.sqrt(2) + labels[:, None] * norm.ppf(area) * math.sqrt(2)
        return labels, crossfit_scores(table, make_task(labels, labels).items)

    rng = np.random.default_rng(97)
    truth = 0.5 if area == 0.5 else float(np.mean([plain_auroc(*measured(rng)) for _ in range(400)]))

    def draw(rng: Rng) -> Drawn:
        return truth, auroc_interval(*measured(rng), variance=VARIANCE)

    return draw


def tpr(area: float, bound: float, n: int) -> Callable[[Rng], Drawn]:
    truth = float(norm.sf(norm.isf(bound) - norm.ppf(area) * math.sqrt(2)))

    def draw(rng: Rng) -> Drawn:
        labels, values = scores(rng, area, n, n)
        return truth, Interval(tpr_at_fpr(labels, values, bound), *tpr_interval(labels, values, bound))

    return draw


def accuracy(figure: str, area: float, n: int) -> Callable[[Rng], Drawn]:
    """Against its own mean over draws: the rule is chosen on half of the texts, so no population has another truth."""
    rng = np.random.default_rng(99)
    value = METRICS[figure].value
    truth = float(np.mean([value(make_task(*scores(rng, area, n, n)).items) for _ in range(1000)]))

    def draw(rng: Rng) -> Drawn:
        return truth, make_task(*scores(rng, area, n, n)).intervals[figure]

    return draw


class Students:
    """A teacher and its students: three quarters of their scores' variance in common, shifts by seed around one."""

    def __init__(self, n: int = 231, teacher: float = 1.0, mean: float = 0.6, scatter: float = 0.15) -> None:
        self.labels, self.teacher = np.arange(2 * n) % 2, teacher
        self.shifts = np.linspace(mean - 2 * scatter, mean + 2 * scatter, 201)
        weights = norm.pdf(self.shifts, mean, scatter)
        self.weights = weights / weights.sum()
        self.truth = self.reduction(self.shifts, self.weights)

    def reduction(self, shifts: np.ndarray, weights: np.ndarray | None = None) -> float:
        """True, of the teacher against the mean of students of these shifts."""
        areas = norm.cdf(shifts / math.sqrt(2))
        return float(norm.cdf(self.teacher / math.sqrt(2)) - np.average(areas, weights=weights))

    def draw(self, rng: Rng, seeds: int) -> tuple[np.ndarray, list, list]:
        """The students' shifts, the teacher's task, the students' tasks."""
        shared = rng.normal(size=len(self.labels))

        def task(shift: float):
            noise = 0.5 * rng.normal(size=len(self.labels))
            return make_task(self.labels, math.sqrt(0.75) * shared + noise + shift * self.labels)

        chosen = rng.choice(self.shifts, seeds, p=self.weights)
        return chosen, [task(self.teacher)], [task(shift) for shift in chosen]


def difference(seeds: int) -> Callable[[Rng], Drawn]:
    students = Students()

    def draw(rng: Rng) -> Drawn:
        shifts, before, after = students.draw(rng, seeds)
        # Of one student the interval speaks of that student alone.
        return students.truth if seeds > 2 else students.reduction(shifts), Reduction(before, after).at()

    return draw


SEEDS = (1, 3, 5)


def power(rng: Rng, mean: float = 0.92, scatter: float = 0.03) -> list[bool]:
    """Whether a true reduction of 0.02 is found by the first of five students, by three of them and by all."""
    _, before, after = Students(mean=mean, scatter=scatter).draw(rng, SEEDS[-1])
    return [Reduction(before, after[:seeds]).at().lower > 0 for seeds in SEEDS]


def words(n: int, members: float = 0.6, others: float = 0.2) -> Callable[[Rng], bool]:
    """Whether an attack that tells as much as the blind baseline does, on average, is said to beat it.

    A word that members have more often drives both, so that their errors go together.
    """
    vocabulary = [f"word{number}" for number in range(100)]

    def split(rng: Rng) -> tuple[np.ndarray, np.ndarray, Blind]:
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

    def draw(rng: Rng) -> bool:
        labels, marked, blind = split(rng)
        task = make_task(labels, weight * marked + rng.normal(size=2 * n), blind=blind[:2])
        task = replace(task, blind_ranks=tuple(blind.ranks))
        return strongest_on("model", [{"loss": task}]).beats_words

    return draw


def null_page(rng: Rng) -> bool:
    """Whether a page of ten models that leak nothing, six attacks and two splits says "leaks" anywhere."""
    p = []
    for _ in range(2):
        labels = np.arange(200) % 2
        shared = rng.normal(size=200)
        for _ in range(10):
            tasks = {str(a): make_task(labels, shared + rng.normal(size=200), independent_coins=True) for a in range(6)}
            p.append(alone("model", [tasks]).p)
    return any(value <= ALPHA for value in holm(p))


def response(eps: float, delta: float, n: int = 400) -> Callable[[Rng], bool]:
    """Whether the bound lies above the truth on randomised response, which betrays a text wholly with chance δ."""
    truth = math.exp(eps) / (1 + math.exp(eps))

    def draw(rng: Rng) -> bool:
        right = (rng.random(n) < truth) | (rng.random(n) < delta)
        return epsilon_lower_bound(int(right.sum()), n, delta=delta, texts=n) > eps

    return draw


def noise(draw_noise: Callable[[Rng, int], np.ndarray], delta: float, eps: float) -> Callable[[Rng], bool]:
    """The same on noise added to a coin, by a mechanism that is (eps, delta)-DP; the surest tenth on either side is
    guessed."""
    n = 400

    def draw(rng: Rng) -> bool:
        coins = rng.integers(0, 2, n)
        order = np.argsort(coins + draw_noise(rng, n))
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


class Case(NamedTuple):
    """`kind` says what `draw` gives; `most` is the widest an interval may be, or the largest share."""

    kind: Callable[[Case, int], tuple[bool, str]]
    name: str
    draw: Callable[[Rng], object]
    draws: int
    most: float


def covers(case: Case, draws: int) -> tuple[bool, str]:
    rng = np.random.default_rng(1)
    drawn = np.array([(truth, *found) for truth, found in (case.draw(rng) for _ in range(draws))])
    shown = drawn[~np.isnan(drawn[:, 2])]
    if len(shown) < draws / 10:
        return True, f"N/A in {1 - len(shown) / draws:.0%}"
    truth, value, lower, upper = shown.T
    below, above = float(np.mean(lower > truth)), float(np.mean(upper < truth))
    width = float(np.mean(upper - lower) / (2 * Z95 * np.std(value - truth)))
    slack = 2.6 / math.sqrt(len(shown))
    right = below + above <= 0.065 + slack * 0.25 and max(below, above) <= 0.035 + slack * 0.19
    missing = f", N/A in {1 - len(shown) / draws:.0%}" if len(shown) < draws else ""
    said = f"truth below {below:.1%}, above {above:.1%}, width × {width:.2f}{missing}"
    return right and width <= case.most * (1 + slack), said


def is_rare(case: Case, draws: int) -> tuple[bool, str]:
    rng = np.random.default_rng(2)
    share = float(np.mean([case.draw(rng) for _ in range(draws)]))
    return share <= case.most + 2.6 * math.sqrt(case.most * (1 - case.most) / draws), f"{share:.1%}"


def is_common(case: Case, draws: int) -> tuple[bool, str]:
    """`most` is the least here."""
    rng = np.random.default_rng(2)
    share = float(np.mean([case.draw(rng) for _ in range(draws)]))
    return share >= case.most - 2.6 * math.sqrt(case.most * (1 - case.most) / draws), f"{share:.1%}"


def grows(case: Case, draws: int) -> tuple[bool, str]:
    """Shares by number of seeds: no less with three than with one, more with five."""
    rng = np.random.default_rng(3)
    found = np.array([case.draw(rng) for _ in range(draws)], dtype=float)
    said = ", ".join(f"{share:.1%} with {seeds}" for share, seeds in zip(found.mean(axis=0), SEEDS, strict=True))
    steps = np.diff(found, axis=1)
    floor = -2.6 * steps.std(axis=0) / math.sqrt(draws)
    return bool((steps.mean(axis=0) >= floor).all() and found[:, 2].mean() > found[:, 0].mean()), said


def cases(long: bool) -> Iterator[Case]:
    sizes = [(50, 50), (50, 200), (100, 100), (231, 231), (1000, 1000)] if long else [(100, 100), (231, 231)]
    for area in (0.5, 0.8, 0.9, 0.95, 0.99) if long else (0.5, 0.8, 0.95, 0.99):
        for members, others in sizes:
            # A few texts carry the error there: what covers is wider than the spread of so skewed a figure.
            most = 1.2 if area < 0.95 or min(members, others) > 200 else 2.2
            yield Case(covers, f"AUROC {area}, {members} and {others} texts", auroc(area, members, others), 400, most)
    for area, n in [(0.5, 100)] + [(0.5, 50), (0.5, 231), (0.6, 100), (0.9, 231)] * long:
        most = 1.2 if area == 0.5 else 1.6
        yield Case(covers, f"AUROC of learnt scores, features of {area}, {n} a side", learnt(area, n), 200, most)
    for n in (50, 100, 1000) if long else (100,):
        yield Case(covers, f"AUROC 0.8 with ties, {n} a side", tied(0.8, n), 400, 1.2)
    for area in (0.5, 0.8, 0.95) if long else (0.8,):
        for documents in (15, 30):
            name = f"AUROC {area}, {documents} documents of four texts a side"
            yield Case(covers, name, clustered(area, documents), 400, 1.2 if area < 0.95 else 1.4)
    yield Case(covers, "TPR at 1 % FPR, AUROC 0.8, 100 a side", tpr(0.8, 0.01, 100), 100, 1.2)
    for area, bound, n in [(0.8, 0.01, 500), (0.95, 0.01, 1000)] + [(0.6, 0.01, 500), (0.95, 0.001, 5000)] * long:
        yield Case(covers, f"TPR at {100 * bound} % FPR, AUROC {area}, {n} a side", tpr(area, bound, n), 200, 1.3)
    figures = [("balanced_acc", 0.7, 100)]
    if long:
        figures += [
            (name, area, 231) for name in ("balanced_acc", "member_acc", "nonmember_acc") for area in (0.55, 0.8)
        ]
    for figure, area, n in figures:
        most = 1.4 if figure == "balanced_acc" else 2.0
        yield Case(covers, f"{figure}, AUROC {area}, {n} a side", accuracy(figure, area, n), 60, most)
    for seeds in (1, 3, 5, 10):
        yield Case(covers, f"reduction of the leak, {seeds} seeds", difference(seeds), 200, 1.6 if seeds == 3 else 1.3)
    yield Case(grows, "a true reduction of 0.02 at 231 a side is found", power, 200, 0)
    for training in ("same", "own"):
        for seeds in (1, 3, 5) if long else (3,):
            name = f"a stopped vanilla student, {training} training, {seeds} seeds, is told from the frontier"
            yield Case(is_rare, name, stopped_is_told_apart(training, seeds), 40, 0.05)
    for best in BEST:
        for seeds in (1, 3, 5) if long else (3,):
            name = f"a vanilla student stopped shortly before the best perplexity, {best}, {seeds} seeds, is told apart"
            yield Case(is_rare, name, stopped_before_the_best(best, seeds), 40, 0.05)
    for seeds, least in ((1, 0.3), (3, 0.25), (5, 0.7)) if long else ((5, 0.7),):
        name = f"an arm that leaks 0.036 less than a vanilla student of its perplexity is found, {seeds} seeds"
        yield Case(is_common, name, better_is_found(seeds), 40, least)
    name = "an attack as good as words is said to beat them, 100 texts a side"
    yield Case(is_rare, name, words(100), 200, 0.025)
    yield Case(is_rare, "a null page of ten models, six attacks, two splits says 'leaks'", null_page, 20, 0.05)
    yield Case(is_rare, "all attacks on texts that no model has seen say 'leaks'", null_of_all_attacks, 20, 0.05)
    for delta in (0.0, 1e-5):
        gaussian = noise(lambda rng, n: rng.normal(size=n), delta, gaussian_epsilon(1.0, delta) if delta else math.inf)
        laplace = noise(lambda rng, n: rng.laplace(size=n), delta, 1.0)
        for mechanism, draw in (("randomised response", response(1.0, delta)), ("Laplace", laplace)):
            yield Case(is_rare, f"ε above the truth, {mechanism}, ε 1, δ {delta}", draw, 400, 0.05)
        if delta:
            yield Case(is_rare, f"ε above the truth, Gaussian mechanism, δ {delta}", gaussian, 400, 0.05)


CHOSEN: list[Case] = []
TIMES = [1]


def measure(number: int) -> tuple[bool, str]:
    case = CHOSEN[number]
    draws = case.draws * TIMES[0]
    right, said = case.kind(case, draws)
    return right, f"{'' if right else 'FAILED '}{case.name}: {said} ({draws} draws)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="more cases, twenty times as many draws")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    args = parser.parse_args()
    TIMES[0] = 20 if args.long else 1
    CHOSEN.extend(case for case in cases(args.long) if args.only in case.name)
    failed = 0
    with multiprocessing.get_context("fork").Pool() as pool:
        for right, line in pool.imap(measure, range(len(CHOSEN))):
            failed += not right
            print(line, flush=True)
    return failed > 0


if __name__ == "__main__":
    raise SystemExit(main())
