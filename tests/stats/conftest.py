"""Statistics that were made up, as a whole file and as shards of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from campaigns.null_texts import null_views

from midistill_tasks.errors import warn_once
from midistill_tasks.splits.shards import Shard
from midistill_tasks.stats import file as stats
from midistill_tasks.views import TokenStats, Unscored

WORDS = ("one", "two", "three", "four", "five", "six", "seven")


@pytest.fixture(autouse=True)
def _each_test_hears_its_warnings() -> None:
    warn_once.cache_clear()


def made_up(rng: np.random.Generator, texts: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Documents of three texts, some of whose views have no statistics, and all views of each."""
    found = []
    for number in range(texts):
        # Documents lie apart by so much that shards reach into each other.
        doc = {"label": number % 2, "cluster": f"doc {number % 2} {number // 8 * 2 + number // 2 % 2}"}
        words = " ".join(rng.choice(WORDS, 6)) + f" {number}"
        views = dict(null_views(rng, 2.2 + 0.4 * (number % 2), 12))
        views["text"] = _with_words(views["text"], words)
        if number % 17 == 3:
            views["lower"] = Unscored("there is no such variant")
        found.append((doc | {"id": hashlib.sha256(words.encode()).hexdigest()[:16]}, views))
    return found


def _with_words(text: TokenStats, words: str) -> TokenStats:
    kept = {name: getattr(text, name) for name in ("greedy", "mean", "std", "tokens", "frequency")}
    return TokenStats(text.logprob, words=words, ends=lambda: list(range(1, len(text) + 1)), **kept)


ABOUT = {
    "model": "org/model",
    "split": "files",
    "ranks": 1,
    "model_identity": "m",
    "data_sha256": "d",
    "options": {"shots": 2, "k": 0.2, "save_stats": "stats"},
}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., SimpleNamespace]:
    """``written(shards, **about of one)``: folders ``whole`` and ``shards`` with the same statistics."""
    made = made_up(np.random.default_rng(5), 160)

    def write(shards: int, views: Any = None, **changes: Mapping[str, Any]) -> SimpleNamespace:
        folder: Path = tmp_path_factory.mktemp("stats")
        clusters = [doc["cluster"] for doc, _ in made]
        counts = dict.fromkeys(("empty", "duplicates", "both_sides", "shots"), 0) | {"members": 80, "nonmembers": 80}
        about = {**ABOUT, "counts": counts}

        def rows(places: Any, placed: bool) -> Any:
            for place in places:
                doc, of_doc = made[place]
                for view, found in of_doc.items():
                    if views is None or view in views:
                        yield stats.row_of(doc | ({"place": place} if placed else {}), view, found, True)

        stats.write(stats.path_of(str(folder / "whole"), "m", "files"), rows(range(len(made)), False), about)
        paths = []
        for shard in (Shard(number, shards) for number in range(1, shards + 1)):
            paths.append(stats.path_of(str(folder / "shards"), "m", "files", shard))
            said = {**about, "shard": str(shard), **changes.get(f"of_{shard.number}", {})}
            stats.write(paths[-1], rows(shard.places(clusters), True), said)
        return SimpleNamespace(whole=folder / "whole", shards=folder / "shards", paths=paths, made=made)

    return write
