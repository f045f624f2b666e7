"""Two ranks, each with every other document, give the figures of one."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from midistill_tasks.attacks import ATTACKS


class Ranks:
    """Two ranks as threads that take turns: one runs until it waits for the other."""

    def __init__(self, size: int) -> None:
        self.size, self.turn = size, threading.Lock()
        self.meeting = threading.Barrier(size, timeout=120)
        self.given: dict[int, Any] = {}
        self.of_thread: dict[int, int] = {}

    def exchange(self, rank: int, value: Any) -> list[Any]:
        """Every rank's value, for every rank."""
        self.given[rank] = value
        self.turn.release()
        self.meeting.wait()
        everything = [self.given[index] for index in range(self.size)]
        self.meeting.wait()
        self.turn.acquire()
        return everything

    def run(self, work: Any) -> list[Any]:
        """``work(rank)`` on every rank; what they return, or the first error."""
        results: dict[int, Any] = {}

        def rank_of(rank: int) -> None:
            try:
                with self.turn:
                    results[rank] = work(rank)
            except BaseException as error:
                results[rank] = error
                self.meeting.abort()

        threads = [threading.Thread(target=rank_of, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results.values():
            if isinstance(result, BaseException):
                raise result
        return [results[rank] for rank in range(self.size)]


def as_rank(lm: Any, rank: int, ranks: Ranks) -> Any:
    """The harness model as one of several: its communication goes through `ranks`."""
    import torch

    lm._rank, lm._world_size = rank, ranks.size
    lm.all_gather = lambda tensor: torch.stack([part.squeeze() for part in ranks.exchange(rank, tensor)])
    lm.gather_object = lambda value, dst=0: ranks.exchange(rank, value)
    lm.barrier = lambda: ranks.exchange(rank, None)
    ranks.of_thread[threading.get_ident()] = rank
    return lm


@pytest.fixture
def evaluate(tiny, scoring, run_files):
    always_the_same = tuple(name for name, kind in ATTACKS.items() if not (kind.generates or kind.requires))

    def evaluate(prepare=lambda lm: lm, batch_size=4, attacks=always_the_same, **flags):
        lm = prepare(scoring.load(tiny("gpt2"), batch_size=batch_size, max_batch_size=8))
        return run_files(lm, attacks, **flags)

    return evaluate


def figures(results):
    return {
        (task, name): value
        for task, row in results["results"].items()
        for name, value in row.items()
        if isinstance(value, float)
    }


def by_id(results):
    return {
        task: {row["doc"]["id"]: (row["target"], row["doc"]["score"]) for row in rows}
        for task, rows in results["samples"].items()
    }


def test_two_ranks_give_the_figures_of_one(evaluate, monkeypatch):
    one = evaluate()
    ranks = Ranks(2)
    gather = lambda value: ranks.exchange(ranks.of_thread[threading.get_ident()], value)  # noqa: E731
    monkeypatch.setattr("midistill_tasks.harness.scores.gathered", gather)
    two, nothing = ranks.run(lambda rank: evaluate(lambda lm: as_rank(lm, rank, ranks)))

    assert nothing is None
    assert figures(two) == pytest.approx(figures(one), rel=1e-5, nan_ok=True)
    assert len(figures(one)) >= 6 * (len(ATTACKS) - 3)
    reasons = [
        {task: config["metadata"]["midistill"]["unscored_reasons"] for task, config in each["configs"].items()}
        for each in (one, two)
    ]
    assert reasons[0] == reasons[1]
    assert list(reasons[0]["mia_conrecall_files"].values()) == [2]  # the member shots
    for task, expected in by_id(one).items():
        got = by_id(two)[task]
        assert got.keys() == expected.keys()
        assert len(got) == 30
        for id, (label, score) in expected.items():
            assert got[id] == (label, pytest.approx(score, rel=1e-5, nan_ok=True))


@pytest.mark.slow
def test_ranks_need_not_agree_on_the_batch_size(evaluate, tmp_path):
    """One that finds all its texts in the cache never asks for a batch size, and the other must not wait for it."""
    flags = {"batch_size": "auto", "attacks": ("mink", "recall"), "use_cache": str(tmp_path / "cache")}
    one = evaluate(**flags, limit=15)  # all of the first rank's, and some more
    ranks = Ranks(2)
    two, _ = ranks.run(lambda rank: evaluate(lambda lm: as_rank(lm, rank, ranks), **flags, limit=16))

    for task, expected in by_id(one).items():
        got = by_id(two)[task]
        assert {id: got[id] for id in expected} == {
            id: (label, pytest.approx(score, rel=1e-5)) for id, (label, score) in expected.items()
        }
        assert len(got) == 16


@pytest.mark.slow
@pytest.mark.parametrize("known", [None, 1, 15])
def test_ranks_share_held_out_texts_also_where_one_has_all_of_its_own_in_the_cache(known, evaluate, tmp_path):
    """Both must take part in what the model's ranks do together, or wait for ever."""
    plain = evaluate(attacks=("heldout_files",))
    flags = {"attacks": ("heldout_files",), "use_cache": str(tmp_path / "cache")}
    if known:
        evaluate(**flags, limit=known)
    ranks = Ranks(2)
    two, _ = ranks.run(lambda rank: evaluate(lambda lm: as_rank(lm, rank, ranks), **flags))

    assert figures(two) == pytest.approx(figures(plain), rel=1e-6, nan_ok=True)
