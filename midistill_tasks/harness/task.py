"""The harness task: documents → requests → scores → figures, each in a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import datasets
from lm_eval.api.task import ConfigurableTask

from midistill_tasks.harness.about import about, announce
from midistill_tasks.harness.documents import judged_docs, task_documents
from midistill_tasks.harness.figures import aggregations, blind_estimate, blind_ranks, directions, no_figures
from midistill_tasks.harness.hooks.requests import answer_requests
from midistill_tasks.harness.keys import read_keys, reading_yaml
from midistill_tasks.harness.requests import check, instances, say_what_does_not_apply, whole_shard
from midistill_tasks.harness.scores import Outcome, outcome, unjudged
from midistill_tasks.harness.stats import likelihood, save
from midistill_tasks.metrics import Scored
from midistill_tasks.results.missing import note
from midistill_tasks.scoring.requests import REQUEST_TYPE

answer_requests()

_NAMES = ("peft", "delta", "pretrained", "model", "path", "engine")
"""The model_args of which the first that is given names a model in the harness's results."""


class MIATask(ConfigurableTask):  # type: ignore[misc]
    """One attack on one split; see `read_keys` for the YAML keys of our own, beside the harness's."""

    def __init__(
        self,
        data_dir: str | None = None,
        cache_dir: str | None = None,
        download_mode: Any = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.keys, harness_config = read_keys(config or {})
        self.rank, self.ranks = 0, 1
        self.outcome = Outcome()
        self.blind_ranks: dict[str, float] = {}
        self.scored_by: Mapping[str, Any] = {}  # --model and --model_args, where `midistill score` gave them
        with reading_yaml(self.keys):
            super().__init__(data_dir, cache_dir, download_mode, config=harness_config)
        self.OUTPUT_TYPE = REQUEST_TYPE
        self.config.metric_list = self.keys.shown
        self._metric_fn_list = dict.fromkeys(self.keys.metrics)  # where the harness puts "bypass" for --predict_only

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Loads and prepares the documents, once for all tasks of a run on the same split."""
        self.dataset: dict[str, Any] = {}
        self.documents = task_documents(self, self.keys)
        self.judged = judged_docs(self.documents, self.keys.options.shard)
        self._docs = self.judged if self.keys.options.run.log_text else self.judged.remove_columns("text")
        self.scored = self.documents.listed

    def has_training_docs(self) -> bool:
        return False

    def has_validation_docs(self) -> bool:
        return False

    def has_test_docs(self) -> bool:
        return True

    def test_docs(self) -> datasets.Dataset:
        """Columns id, text (unless ``log_text`` is false), label, cluster; member, non-member, member, …"""
        return self._docs

    def fewshot_docs(self) -> None:
        """There are none: the harness's few-shot flags do not reach these tasks."""

    def doc_to_text(self, doc: Mapping[str, Any], doc_to_text: Any = None) -> str:
        """What the harness may print of a document: its text, or its id with ``log_text`` false."""
        return str(doc.get("text", doc["id"]))

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> int:
        """1 for a member, 0 for a non-member."""
        return int(doc["label"])

    def build_all_requests(
        self,
        *,
        limit: int | None = None,
        samples: list[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        **flags: Any,
    ) -> None:
        """One request per document and view.

        Raises:
            InputError: see `requests.check`.
        """
        say_what_does_not_apply(self.keys, flags)
        self.scored = self.documents.listed
        if limit is not None or samples is not None:
            whole_shard(self.keys)
            docs = self.doc_iterator(limit=limit, samples=samples)
            self.scored = [(doc["id"], doc["label"]) for _, doc in docs]
        check(self.keys, self.scored)
        self.rank, self.ranks = rank, world_size
        announce(self.keys, self.documents)
        docs = self.doc_iterator(rank=rank, limit=limit, samples=samples, world_size=world_size)
        chat = flags.get("chat_template") if flags.get("apply_chat_template") else None
        self._instances = list(instances(self.keys, docs, self.documents, self.judged, self.scored, chat))

    def apply_filters(self) -> None:
        """Turns the answers of each document into its score, and judges its words by the blind baseline."""
        if self.keys.options.run.save_stats is not None:
            said = self.about(Outcome()) | {"model": self.model_name()}
            save(self.keys, self.documents, self._instances, said, self.rank, self.ranks)
        if self.keys.options.shard is not None:
            self.outcome = unjudged(self.keys, self._instances)
            note(self.keys.task, True, {})
            return
        self.outcome = outcome(self.keys, self._instances)
        note(self.keys.task, self.outcome.any, self.outcome.reasons)
        if "bypass" not in self._metric_fn_list and not self.outcome.silent:
            self.blind_ranks = blind_ranks(self.keys, self.documents, [name for name, _ in self.scored])

    def model_name(self) -> str:
        """As the harness names it, and which of those under that name; ``--model_args`` are in the task's metadata."""
        given = self.config.metadata or {}
        name = next((str(given[key]) for key in _NAMES if given.get(key)), "model")
        within = [str(given[key]) for key in ("subfolder", "gguf_file") if given.get(key)]
        revision = "" if given.get("revision") in (None, "", "main") else f"@{given['revision']}"
        return "/".join([name, *within]) + revision

    def process_results(self, doc: dict[str, Any], results: Sequence[float]) -> dict[str, Any]:
        """The document's label, score (of one filter) and id under the name of every metric (and of its error)."""
        text = self.outcome.scores[doc["id"]]._replace(score=results[0])
        doc |= {**text._asdict(), **self.outcome.beside.get(doc["id"], {})}
        if doc["id"] in self.blind_ranks:
            doc["blind_rank"] = self.blind_ranks[doc["id"]]
        if "bypass" in self._metric_fn_list:
            return {"bypass": 999}
        if self.outcome.silent:
            return {}
        item = Scored(int(doc["label"]), text.score, str(doc["id"]), str(doc["cluster"]))
        return dict.fromkeys(self.aggregation(), item)

    def aggregation(self) -> dict[str, Callable[[Sequence[Scored]], Any]]:
        """Per metric its value and its standard error; see `figures.aggregations`."""
        if "bypass" in self._metric_fn_list:
            return cast("dict[str, Callable[[Sequence[Scored]], Any]]", self._aggregation_list)
        if self.keys.options.shard is not None:
            return no_figures(self.keys)
        return aggregations(self.keys, self.documents, [name for name, _ in self.scored])

    def higher_is_better(self) -> dict[str, bool | None]:
        """False where less leaks less; None for what has no direction."""
        return directions(self.keys)

    def dump_config(self) -> dict[str, Any]:
        """The harness's, with how the figures came about under ``metadata.midistill``."""
        config: dict[str, Any] = super().dump_config()
        if self.outcome.silent:
            config["metric_list"] = []  # the W&B logger looks each of them up in every sample
        config["metadata"] = (config.get("metadata") or {}) | {"midistill": self.about(self.outcome)}
        return config

    def about(self, outcome: Outcome) -> dict[str, Any]:
        """How the figures came about: see `about.about`."""
        said: dict[str, Any] = {"likelihood": kind} if (kind := likelihood()) else {}
        if self.scored_by:
            said["scored_by"] = dict(self.scored_by)
        if self.blind_ranks:
            said["blind_auroc"] = blind_estimate(self.documents, [name for name, _ in self.scored])
        return about(self.keys, self.documents, self.scored, outcome, self.ranks) | said
