"""Attacks on saved statistics: what a run of the harness would say of them, without the model.

The texts pass by one after another; of each only its scores stay, and its features where labels teach.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from midistill_tasks.attacks import ATTACKS, Attack
from midistill_tasks.attacks.judging import judged_text
from midistill_tasks.errors import InputError
from midistill_tasks.harness.about import chance
from midistill_tasks.harness.figures import metrics_of
from midistill_tasks.harness.keys import default_metrics
from midistill_tasks.harness.options import Options
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.blind import Blind, blind_auroc
from midistill_tasks.metrics.halves import nonmembers_by_half
from midistill_tasks.metrics.scored import FloatArray, IntArray
from midistill_tasks.offline.scores import Names, Scores
from midistill_tasks.results.run import as_number
from midistill_tasks.stats.parts import Part
from midistill_tasks.stats.texts import Text, texts
from midistill_tasks.views import TokenStats, Unscored, View

_OF_SHARDS = frozenset({"shard", "command", "asked", "scored_by"})
"""What files say of themselves that is no part of the results."""
BLIND_TEXTS = 50_000
"""The blind baseline reads so many texts at most, which it must have in memory together."""


@dataclass(frozen=True)
class Attacked:
    """One attack on the statistics of a model and split.

    Attributes:
        task: ``mia_<attack>_<split>``.
        figures: filter → metric → value and error, NaN where there is none.
        about: as a run's ``metadata.midistill``.
        scores: of all texts.
        blind_ranks: of all texts, [n], NaN where there is none.
    """

    task: str
    figures: Mapping[str, Mapping[str, tuple[float, float]]]
    about: Mapping[str, Any]
    scores: Scores
    blind_ranks: FloatArray

    def sample(self, row: int, filter_name: str, doc: Mapping[str, Any]) -> dict[str, Any]:
        """The line of the harness's samples file for the text of this row."""
        rank = float(self.blind_ranks[row])
        said = {**doc, **self.scores.sample(row, filter_name), **({} if math.isnan(rank) else {"blind_rank": rank})}
        return {"doc_id": row, "doc": said, "target": doc["label"], "filter": filter_name}


def attack_stats(
    parts: Sequence[Part], options: Options, attacks: Sequence[str] | None = None
) -> tuple[list[Attacked], dict[str, str]]:
    """Attacks on the statistics of one model and split.

    Args:
        parts: its files, as `stats.parts.parts_below` gives them.
        options: of the attacks; those of the run do not count again.
        attacks: which; by default all that the statistics allow.

    Returns:
        What was found, and attack → why it cannot be made from these statistics.

    Raises:
        InputError: an attack is not known, nobody said which texts are members, or a file cannot be read.
    """
    names = [ATTACKS.find(name, "--attack").name for name in attacks] if attacks else list(ATTACKS)
    if frozenset[int]().union(*(part.labels for part in parts)) != {0, 1}:
        raise InputError(
            "the statistics are of texts of one class, or nobody said which are members: an attack needs both"
        )
    has = _has(parts)
    lacking = {name: why for name in names if (why := _lacks(ATTACKS[name], options.variants(name), has))}
    made = _Pass(parts, options, [ATTACKS[name] for name in names if name not in lacking])
    about = {key: value for key, value in parts[0].about.items() if key not in _OF_SHARDS}
    return [made.attacked(one, about) for one in tqdm(made.scores, desc="Figures", unit="attack", leave=False)], lacking


class _Pass:
    """One pass over the texts: the scores of several attacks, and the blind baseline."""

    def __init__(self, parts: Sequence[Part], options: Options, attacks: Sequence[Attack]) -> None:
        self.options, self.names = options, Names()
        self.scores = [Scores(attack, options.variants(attack.name)) for attack in attacks]
        wanted = [scores.attack.views_over(scores.variants) for scores in self.scores]
        words = _Words(sum(part.texts for part in parts))
        for text in tqdm(texts(parts), total=words.total, desc="Attacking", unit="text", leave=False):
            self.names.add(text.doc)
            words.add(text.doc)
            for scores, views in zip(self.scores, wanted, strict=True):
                given = _all_views(scores.attack, views, text)
                scores.add(judged_text(scores.attack, scores.variants, given))
        self.blind, self.blind_ranks = words.blind(self.names)
        self.blind_texts = words.judged
        for scores in self.scores:  # before any figures, which need memory, too
            scores.teach(self.names)

    def attacked(self, scores: Scores, saved: Mapping[str, Any]) -> Attacked:
        """The figures of one attack."""
        attack = scores.attack
        figures = {}
        for name in scores.filters:
            items = self.names.items(scores.of(name), scores.is_learnt(name))
            figures[name] = _figures(attack, items, self.blind)
        about = self._about(scores, saved)
        return Attacked(f"mia_{attack.name}_{saved['split']}", figures, about, scores, self.blind_ranks)

    def _nonmembers(self, attack: Attack) -> list[int]:
        """Of each part that a TPR is taken on."""
        if not attack.picks:
            return [self.names.labels.count(0)]
        return nonmembers_by_half(self.names.items(np.full(len(self.names), math.nan)))

    def _about(self, scores: Scores, saved: Mapping[str, Any]) -> dict[str, Any]:
        """What a run would say of the task."""
        ours = {key: value for key, value in saved.items() if key not in ("model", "ranks", "model_identity", "learnt")}
        of_attacks = {name for other in ATTACKS.values() for name in other.fields}
        run_options = {key: value for key, value in saved["options"].items() if key not in of_attacks}
        picked = () if scores.taught is None else scores.taught.picked
        return ours | {
            "attack": scores.attack.name,
            **({"learnt": True} if scores.learns else {}),
            **({"chosen": list(picked)} if picked else {}),
            **({"blind_texts": self.blind_texts} if self.blind and self.blind_texts < len(self.names) else {}),
            "options": {**self.options.attacks[scores.attack.name], **run_options},
            "counts": {**saved["counts"], **scores.counts()},
            "unscored_reasons": scores.reasons(),
            "chance": chance(self._nonmembers(scores.attack)),
            "from_stats": True,
        }


class _Words:
    """The texts of the blind baseline: all, or of more than `BLIND_TEXTS` about so many.

    Whole documents, by a hash of their names, which neither a label nor the order decides; a mean over fewer texts,
    with the error of so many.
    """

    def __init__(self, total: int) -> None:
        self.total, self.rows, self.texts = total, list[int](), list[str]()
        self.below = BLIND_TEXTS / total if total > BLIND_TEXTS else 1.0
        self.seen = 0

    def add(self, doc: Mapping[str, Any]) -> None:
        """The next text, if it is to be judged; before files kept them, those without a score had no words."""
        if "text" in doc and _share_of(doc["cluster"]) < self.below:
            self.rows.append(self.seen)
            self.texts.append(doc["text"])
        self.seen += 1

    @property
    def judged(self) -> int:
        """How many texts."""
        return len(self.rows)

    def blind(self, names: Names) -> tuple[Blind | None, FloatArray]:
        """The baseline, None where texts were left out of the files, and the ranks of all texts."""
        ranks = np.full(len(names), math.nan)
        if not self.rows:
            return None, ranks
        rows: IntArray = np.array(self.rows, dtype=np.int64)
        found = blind_auroc(
            self.texts, [names.labels[row] for row in self.rows], [names.clusters[row] for row in self.rows]
        )
        ranks[rows] = found.ranks
        self.texts.clear()
        return found, ranks


def _share_of(name: str) -> float:
    """0 to 1, by a hash."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _has(parts: Sequence[Part]) -> dict[str, frozenset[str]]:
    """View → what its statistics hold, by the first text that has any."""
    views, found = {name for part in parts for name in part.views}, dict[str, frozenset[str]]()
    for text in texts(parts):
        for name, answer in text.answers.items():
            if isinstance(answer, TokenStats):
                found.setdefault(name, answer.has)
        if len(found) == len(views):
            break
    return {name: found.get(name, frozenset()) for name in views}


def _lacks(attack: Attack, variants: Mapping[str, Mapping[str, Any]], has: Mapping[str, frozenset[str]]) -> str:
    """Why the attack cannot be made; "" where it can."""
    wanted = attack.views_over(variants)
    views = {view.name for view in wanted}
    if any(view.prompt for view in wanted):
        return "it needs the model, which goes on from the texts"
    missing = sorted(views - has.keys() - attack.optional)
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        return f"there is no view {missing[0]}{more}: save the statistics of a run with this attack"
    needs = sorted(set.union(*(set(attack.needs - has[view]) for view in views & has.keys())))
    if "words" in needs:
        return "the texts were left out of the file (log_text false)"
    return f"the file has no {', '.join(needs)}: save the statistics of a run with this attack" if needs else ""


def _all_views(attack: Attack, wanted: Sequence[View], text: Text) -> dict[View, TokenStats | Unscored]:
    """The text's views, with a reason for each that it lacks; what the attack does without is left out."""
    return {
        view: text.answers.get(view.name) or Unscored(f"there is no view '{view.name}' of it")
        for view in wanted
        if view.name in text.answers or view.name not in attack.optional
    }


def _figures(attack: Attack, items: Sequence[Scored], blind: Blind | None) -> dict[str, tuple[float, float]]:
    figures = {}
    for name in default_metrics(attack):
        if name == "blind_auroc":
            figures[name] = (math.nan, math.nan) if blind is None else (blind.value, blind.stderr)
            continue
        metric = metrics_of(attack)[name]
        figures[name] = (metric.value(items), as_number(metric.stderr(items)) if metric.stderr else math.nan)
    return figures
