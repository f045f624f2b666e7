"""The harness task: documents → views → scores → metrics."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from typing import Any, cast

import datasets
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from midistill_tasks import __version__
from midistill_tasks.attacks import ATTACKS
from midistill_tasks.errors import InputError, nearest, warn_once
from midistill_tasks.harness.documents import documents
from midistill_tasks.harness.options import MIAOptions, parse_options
from midistill_tasks.metrics import METRICS, Scored
from midistill_tasks.metrics.blind import blind_auroc
from midistill_tasks.scoring.requests import REQUEST_TYPE, ViewRequest
from midistill_tasks.scoring.run import check_reference, install
from midistill_tasks.splits import SPLITS
from midistill_tasks.views import TokenStats, Unscored, View

logger = logging.getLogger(__name__)

install()

DEFAULT_METRICS = ("auroc", "tpr_at_1pct_fpr", "balanced_acc", "member_acc", "nonmember_acc", "blind_auroc")
NO_REFERENCE = (
    "needs a reference model, which should be like the target but not trained on the members: "
    '--metadata \'{"mia": {"reference": "EleutherAI/pythia-70m"}}\''
)


class MIATask(ConfigurableTask):  # type: ignore[misc]
    """One attack on one split.

    YAML keys of our own, beside the harness's: ``attack`` (an id of `ATTACKS`), ``split`` (an id of `SPLITS`, or absent
    where ``dataset_path``, ``test_split``, ``doc_to_text`` and ``doc_to_target`` say where texts and labels are), and
    ``optional`` (inside a group: without what the attack needs, leave its row out instead of stopping).
    """

    def __init__(
        self,
        data_dir: str | None = None,
        cache_dir: str | None = None,
        download_mode: Any = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        config = {**(config or {})}
        config.pop("class", None)
        self.attack = ATTACKS[_known("attack", config.pop("attack", ""), ATTACKS)]
        split = config.pop("split", None)
        self.split = None if split is None else SPLITS[_known("split", split, SPLITS)]
        self.optional = bool(config.pop("optional", False))
        self.options = parse_options(config.get("metadata"))
        self.reference = _reference(self.options)
        self.skip = self._missing(str(config.get("task")))
        self._metric_names = _metric_names(config.get("metric_list"))
        shown = config.get("metric_list") or [{"metric": name} for name in DEFAULT_METRICS]
        config |= {"output_type": "loglikelihood_rolling", "num_fewshot": 0, "metric_list": []}
        super().__init__(data_dir, cache_dir, download_mode, config=config)
        self.OUTPUT_TYPE = REQUEST_TYPE
        self.config.metric_list = shown
        self._metric_fn_list = dict.fromkeys(self._metric_names)
        self._stats: dict[str, TokenStats] = {}

    def _missing(self, task: str) -> str | None:
        needs_reference = any(view.model == "reference" for view in self.attack.views)
        if not needs_reference or self.reference is not None:
            return None
        if not self.optional:
            raise InputError(f"{task} {NO_REFERENCE}")
        logger.warning("%s is left out: it %s", task, NO_REFERENCE)
        return NO_REFERENCE

    # ------------------------------------------------------------------ documents

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **_: Any) -> None:
        """Loads and prepares the documents, once for all tasks of a run on the same split."""
        self.dataset: dict[str, Any] = {}
        self.prepared = documents(self, self.split, self.options, self._split_name)
        docs = self.prepared.docs
        self._texts = dict(zip(docs["id"], docs["text"], strict=True))
        self._docs = docs if self.options.log_text else docs.remove_columns("text")

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
        return str(doc["text"] if self.options.log_text else doc["id"])

    def doc_to_target(self, doc: Mapping[str, Any], doc_to_target: Any = None) -> int:
        """1 for a member, 0 for a non-member."""
        return int(doc["label"])

    # ------------------------------------------------------------------ requests

    def build_all_requests(
        self,
        *,
        limit: int | None = None,
        samples: list[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        cache_requests: bool = False,
        rewrite_requests_cache: bool = False,
        **prompting: Any,
    ) -> None:
        """One request per document and view.

        Raises:
            InputError: the documents that would be scored are of one class only, or the reference is not to be had.
        """
        ignored = [key for key in ("apply_chat_template", "system_instruction") if prompting.get(key)]
        if ignored:
            warn_once(
                f"MIA tasks score texts as they are: {' and '.join('--' + key for key in ignored)} does not apply"
            )
        if cache_requests or rewrite_requests_cache:
            warn_once("MIA tasks do not use --cache_requests, whose key ignores --metadata")
        scored = [doc for _, doc in self.doc_iterator(limit=limit, samples=samples)]
        if len({doc["label"] for doc in scored}) < 2:
            raise InputError(
                f"{self.task_name}: the {len(scored)} documents to score are of one class; "
                "raise --limit, or name members and non-members in --samples"
            )
        if self.reference is not None and any(view.model == "reference" for view in self.attack.views):
            check_reference(self.reference)
        self._scored, self._world_size = scored, world_size
        self._announce()
        self._instances = [
            instance
            for doc_id, doc in self.doc_iterator(rank=rank, limit=limit, samples=samples, world_size=world_size)
            for instance in self._requests(doc_id, doc)
        ]

    def _announce(self) -> None:
        counts = ", ".join(f"{name} {count}" for name, count in self.prepared.counts.items() if count)
        for message in (
            f"[{self._split_name}] {counts}",
            f"[{self._split_name}] labels are valid for {self.valid_for}",
        ):
            if message not in self.prepared.said:
                self.prepared.said.add(message)
                logger.info(message)

    def _requests(self, doc_id: int, doc: dict[str, Any]) -> Iterator[Instance]:
        shown = self.doc_to_text(doc)
        for index, view in enumerate(self.attack.views):
            yield Instance(
                request_type=REQUEST_TYPE,
                doc=doc,
                arguments=(shown, self._view_request(self._texts[doc["id"]], view)),
                idx=index,
                metadata=(self.config.task, doc_id, 1),
            )

    def _view_request(self, text: str, view: View) -> ViewRequest:
        published = view.after_shots and self.options.as_published
        return ViewRequest(
            text=text,
            view=view,
            shots=self.prepared.shots if view.after_shots else (),
            first_token="always" if published else self.options.first_token,
            reference=self.reference if view.model == "reference" else None,
            skip=self.skip,
        )

    # ------------------------------------------------------------------ scores

    def apply_filters(self) -> None:
        """Turns the answers of each document into its score, which is all that stays in memory and in samples."""
        by_doc: dict[int, list[Instance]] = defaultdict(list)
        for instance in self._instances:
            by_doc[instance.doc_id].append(instance)
        self._unscored: Counter[str] = Counter()
        self._silent = False
        for instances in by_doc.values():
            score = self._score(instances)
            for instance in instances:
                instance.resps = [repr(instance.resps[0])]
                instance.filtered_resps["none"] = score
        for reason, count in self._unscored.items():
            if not self._silent:
                logger.warning("[%s] %d of %d texts are not scored: %s", self.task_name, count, len(by_doc), reason)

    def _score(self, instances: Sequence[Instance]) -> float:
        answers = {instance.args[1].view.name: instance.resps[0] for instance in instances}
        doc = instances[0].doc
        for answer in answers.values():
            if isinstance(answer, Unscored):
                self._silent = self._silent or answer.whole_task
                self._unscored[answer.reason] += 1
                return math.nan
        if "text" in answers:
            self._stats[doc["id"]] = answers["text"]
        options = {name: getattr(self.options, name) for name in self.attack.options}
        score = self.attack.score(answers, self._texts[doc["id"]], **options)
        if math.isnan(score):
            self._unscored["the score is not defined for it"] += 1
        return score

    def process_results(self, doc: dict[str, Any], results: Sequence[float]) -> dict[str, Any]:
        """The document's label, score and id under the name of every metric (and of its error)."""
        score, stats = results[0], self._stats.get(doc["id"])
        doc |= {"score": score, "n_tokens": len(stats) if stats else 0, "truncated": bool(stats and stats.truncated)}
        if "bypass" in self._metric_fn_list:
            return {"bypass": 999}
        if self._silent:
            return {}
        item = Scored(int(doc["label"]), score, str(doc["id"]), str(doc["cluster"]))
        return dict.fromkeys(self.aggregation(), item)

    # ------------------------------------------------------------------ figures

    def aggregation(self) -> dict[str, Callable[[Sequence[Scored]], Any]]:
        """Per metric its value, followed by its standard error under ``<name>_stderr``, which tables and groups use."""
        if "bypass" in self._metric_fn_list:
            return cast("dict[str, Callable[[Sequence[Scored]], Any]]", self._aggregation_list)
        chosen: dict[str, Callable[[Sequence[Scored]], Any]] = {}
        for name in self._metric_names:
            if name == "blind_auroc":
                chosen |= {name: lambda items: self._blind[0], f"{name}_stderr": self._blind_stderr}
                continue
            metric = METRICS[name]
            chosen[name] = self._counting(metric.value)
            if metric.stderr is not None:
                chosen[f"{name}_stderr"] = metric.stderr
        return chosen

    def higher_is_better(self) -> dict[str, bool | None]:
        """False where less leaks less; None for what has no direction."""
        return {name: METRICS[name].higher_is_better if name in METRICS else None for name in self._metric_names}

    def _counting(self, value: Callable[[Sequence[Scored]], float]) -> Callable[[Sequence[Scored]], float]:
        def figure(items: Sequence[Scored]) -> float:
            self._items = items  # of all ranks: the harness gathers before it aggregates
            return value(items)

        return figure

    @cached_property
    def _blind(self) -> tuple[float, float]:
        """The bag-of-words baseline on the documents that were scored, and its error; once per split."""
        key = hashlib.sha256("".join(doc["id"] for doc in self._scored).encode()).hexdigest()
        known: dict[str, tuple[float, float]] = self.prepared.blind
        if key not in known:
            texts = [self._texts[doc["id"]] for doc in self._scored]
            labels, clusters = [doc["label"] for doc in self._scored], [doc["cluster"] for doc in self._scored]
            known[key] = blind_auroc(texts, labels, clusters)
        return known[key]

    def _blind_stderr(self, items: Sequence[Scored]) -> float | str:
        value, stderr = self._blind
        attack = METRICS["auroc"].value(items)
        if value > max(attack, 1 - attack):
            warn_once(
                f"[{self._split_name}] a bag-of-words classifier that never sees the model reaches AUROC {value:.3f}: "
                "where that beats an attack, the split measures how its two sides differ, not what the model remembers"
            )
        return "N/A" if math.isnan(stderr) else stderr

    # ------------------------------------------------------------------ what the results say of themselves

    @property
    def _split_name(self) -> str:
        return self.split.name if self.split else self.task_name.removeprefix(f"mia_{self.attack.name}_")

    @property
    def valid_for(self) -> str:
        """For which models the labels are true."""
        if self.split is not None:
            return self.split.valid_for
        return str((self.config.metadata or {}).get("valid_for", "models that were trained on the members (unstated)"))

    def dump_config(self) -> dict[str, Any]:
        """The harness's, with how the figures came about under ``metadata.midistill``."""
        config: dict[str, Any] = super().dump_config()
        if getattr(self, "_silent", False):
            config["metric_list"] = []  # the W&B logger looks each of them up in every sample
        counts = dict(self.prepared.counts)
        items: Sequence[Scored] = getattr(self, "_items", ())
        if items:
            counts["unscored"] = sum(math.isnan(item.score) for item in items)
        if getattr(self, "_world_size", 0) == 1:
            counts["truncated"] = sum(stats.truncated for stats in self._stats.values())
        ids = sorted(f"{doc['id']}{doc['label']}" for doc in getattr(self, "_scored", self._docs))
        config["metadata"] = (config.get("metadata") or {}) | {
            "midistill": {
                "attack": self.attack.name,
                "split": self._split_name,
                "valid_for": self.valid_for,
                "independent_coins": self.options.independent_coins
                or bool(self.split and self.split.independent_coins),
                "options": self.options.model_dump(),
                "counts": counts,
                "unscored_reasons": dict(getattr(self, "_unscored", {})),
                "data_sha256": hashlib.sha256("\n".join(ids).encode()).hexdigest(),
                "versions": {"midistill": __version__}
                | {name: version(name) for name in ("lm_eval", "torch", "transformers", "numpy")},
            }
        }
        return config


class MIASplit(MIATask):
    """All attacks on one split from one YAML file: ``class: !function midistill_tasks.task.MIASplit``.

    The file's ``task`` (``mia_<split>``) becomes a group of ``mia_<attack>_<split>``. `TaskFactory` calls a class with
    the file's content and takes what comes back, so this one gives a `Group`.
    """

    def __new__(cls, config: Mapping[str, Any]) -> Group:
        name = config["task"]
        group = Group(name=name, metadata=config.get("metadata"))
        for attack in ATTACKS:
            task = f"mia_{attack}_{name.removeprefix('mia_')}"
            group.add(MIATask(config={**config, "task": task, "attack": attack, "optional": True}))
        return group

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Never reached; its signature tells `TaskFactory` to hand over the configuration."""


def _known(what: str, given: Any, known: Mapping[str, Any]) -> str:
    name = str(given)
    if name not in known:
        raise InputError(f"a MIA task's YAML key '{what}' is '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return name


def _metric_names(metric_list: Sequence[Mapping[str, Any]] | None) -> tuple[str, ...]:
    known = [*METRICS, "blind_auroc"]
    if any("metric" not in entry or isinstance(entry, str) for entry in metric_list or ()):
        raise InputError(f"metric_list: entries look like '- metric: auroc'; a MIA task has {', '.join(known)}")
    names = tuple(str(entry["metric"]) for entry in metric_list) if metric_list else DEFAULT_METRICS
    for name in names:
        if name not in known:
            raise InputError(
                f"metric_list: a MIA task has no metric '{name}'{nearest(name, known)}; {', '.join(known)}"
            )
    return names


def _reference(options: MIAOptions) -> str | None:
    """The reference model as canonical JSON of its model_args, "base", or None."""
    reference = options.reference
    if reference is None or reference == "base":
        return reference
    spec = reference if isinstance(reference, dict) else {"pretrained": reference}
    return json.dumps(spec, sort_keys=True)
