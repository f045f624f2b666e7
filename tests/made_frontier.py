"""Made-up students whose scores and held-out losses come from one loss per text, as those of real ones do.

A text's loss a byte is its own difficulty, shared by all students, plus what the training has not taught yet, plus
noise that moves on slowly as a training goes on, less what is remembered of a member. The score is minus that loss.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from made_results import DATE
from made_results import _task as make_task

from midistill_tasks.compare.frontier.against import Seed, Sides
from midistill_tasks.compare.frontier.interpolation import Texts, measure, texts_of
from midistill_tasks.results.likelihoods import Heldout
from midistill_tasks.results.run import AttackResult

STEPS = tuple(np.geomspace(1 / 32, 1, 7))
"""Of a training that is 1 long; the last is the whole."""
Rng = np.random.Generator


def excess(time: float, turning: float = 0.0) -> float:
    """Loss a byte above that of the whole training, whose best is at its end for `turning` 0.125, for more before."""
    return 0.25 * (1 / math.sqrt(time) - 1) + turning * (time - 1)


def remembered(time: float) -> float:
    """Of a member's loss a byte."""
    return 0.6 * time


class Student(NamedTuple):
    """Attack → result, and its losses on the non-members."""

    results: dict[str, AttackResult]
    heldout: Heldout


class World:
    """The texts of a study: ids, documents, sizes and difficulties."""

    def __init__(
        self, rng: Rng, n: int = 300, texts_a_document: int = 1, noise: float = 0.05, turning: float = 0.0
    ) -> None:
        """`noise`: of a text's loss, of one training, over a factor e of its time; `turning`: see `excess`."""
        self.noise, self.turning = noise, turning
        documents = n // texts_a_document
        self.rng = rng
        self.labels = np.repeat(rng.permutation(np.arange(documents) % 2), texts_a_document)
        self.clusters = [f"d{number // texts_a_document}" for number in range(n)]
        self.sizes = rng.integers(200, 600, n).astype(float)
        self.hard = np.repeat(rng.normal(2, 0.3, documents), texts_a_document)
        self.hard += rng.normal(0, 0.1, n)

    def path(self, times: Sequence[float]) -> np.ndarray:
        """Noise of one seed's training at rising times, [times, n]: a random walk over their logarithms."""
        steps = np.diff(np.log([1 / 64, *times]))
        walk = self.rng.normal(size=(len(times), len(self.hard))) * np.sqrt(steps)[:, None]
        return self.noise * np.cumsum(walk, axis=0)

    def student(self, noise: np.ndarray, above: float, memory: float, attacks: int = 1) -> Student:
        """Whose losses lie so far above the best, and a member's so far below that; further attacks add noise."""
        loss = self.hard + above + noise - memory * self.labels
        scores = {f"a{number}": -loss + 0.1 * number * self.rng.normal(size=len(loss)) for number in range(attacks)}
        results = {
            name: make_task(self.labels, values, self.clusters, attack=name, independent_coins=True)
            for name, values in scores.items()
        }
        other = np.flatnonzero(self.labels == 0)
        ids = tuple(f"{number:016x}" for number in other)
        return Student(results, Heldout(ids, (loss * self.sizes)[other], self.sizes[other], "byte"))

    def trained(self, noise: np.ndarray, time: float, attacks: int, gain: float = 0.0) -> Student:
        """Until that time, remembering less by `gain`."""
        return self.student(noise, excess(time, self.turning), remembered(time) - gain, attacks)

    def stopped(self, time: float, attacks: int = 1, gain: float = 0.0) -> tuple[list[Student], Student]:
        """One seed: its frontier, and a student of the same training at that time that remembers less by `gain`."""
        times = sorted({*STEPS, time})
        noises = dict(zip(times, self.path(times), strict=True))
        points = [self.trained(noises[step], step, attacks) for step in STEPS]
        return points, self.trained(noises[time], time, attacks, gain)

    def apart(self, time: float, attacks: int = 1, gain: float = 0.0) -> tuple[list[Student], Student]:
        """The same, but the student is of a training of its own."""
        points, _ = self.stopped(time, attacks)
        (noise,) = self.path([time])
        return points, self.trained(noise, time, attacks, gain)


def texts_like(student: Student) -> Texts:
    return texts_of(next(iter(student.results.values())), student.heldout)


def study(seeds: Sequence[tuple[list[Student], Student]]) -> tuple[list[Seed], Texts, Sides]:
    """What `frontier.judge` takes of the seeds of an arm."""
    texts = texts_like(seeds[0][1])

    def measured(student: Student):
        return measure(student.results, student.heldout, texts)

    made = [Seed(measured(arm), {"stopped": [measured(one) for one in points]}) for points, arm in seeds]
    return made, texts, ([points[-1].results for points, _ in seeds], [arm.results for _, arm in seeds])


def write_study(
    folder: Path,
    write_output: Callable[..., Path],
    arms: Mapping[str, tuple[float, float]],
    seeds: int = 3,
    n: int = 400,
) -> World:
    """A study's folder with a teacher, arms of a time and a gain each, the vanilla one and its frontier."""
    world = World(np.random.default_rng(11), n, noise=0.02)

    def write(place: str, student: Student) -> str:
        scores = {name: result.scores for name, result in student.results.items()}
        held, value = student.heldout, math.exp(student.heldout.value)
        utility = {"heldout_made": {"byte_perplexity": (value, "N/A", False)}}
        where = folder / "results" / place
        write_output(where, world.labels, scores, f"models/{place}", utility=utility, independent_coins=True)
        rows = (
            {"doc": {"id": name}, "byte_perplexity": [-loss, size]}
            for name, loss, size in zip(held.ids, held.losses, held.sizes, strict=True)
        )
        samples = where / f"samples_heldout_made_{DATE}.jsonl"
        samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(where.relative_to(folder))

    def one(time: float, memory: float) -> Student:
        return world.student(world.path([time])[0], excess(time), memory, 2)

    found: dict = {arm: {} for arm in ("vanilla", *arms)}
    frontier: dict = {"arm": "vanilla", "stopped": {}, "fewer": {}}
    for seed in map(str, range(seeds)):
        *points, whole = world.stopped(1.0, 2)[0]
        found["vanilla"][seed] = write(f"vanilla/{seed}", whole)
        frontier["stopped"][seed] = {
            f"checkpoint {k}": write(f"vanilla@stop-{k}/{seed}", each) for k, each in enumerate(points, 1)
        }
        frontier["fewer"][seed] = {
            f"on {share} of the texts": write(
                f"vanilla@keep-{share}/{seed}", one(share, remembered(share) + 0.1 * share)
            )
            for share in (0.25, 0.5)
        }
        for arm, (time, gain) in arms.items():
            found[arm][seed] = write(f"{arm}/{seed}", one(time, remembered(time) - gain))
    trained = {arm: {seed: {} for seed in of} for arm, of in found.items()}
    manifest = {"teacher": write("teacher", one(1.0, 0.5)), "arms": found, "trained": trained, "frontier": frontier}
    (folder / "study.json").write_text(json.dumps(manifest))
    return world
