"""Whatever the number of tasks, a view of a text is read once, and the reference model is gone afterwards."""

from __future__ import annotations

import gc
import json
import weakref

import pytest

from midistill_tasks.attacks import ATTACKS
from midistill_tasks.harness.expand import groups
from midistill_tasks.scoring.protocol import HarnessScorer
from midistill_tasks.scoring.run import references_kept


@pytest.fixture
def references(monkeypatch):
    """Weak references to the reference models that were loaded, and what each of them and the target read."""
    loaded, original = [], HarnessScorer.load

    def load(scorer, spec):
        assert all(model() is None for model, _ in loaded)
        other = original(scorer, spec)
        loaded.append((weakref.ref(other.model), listen(other)))
        return other

    monkeypatch.setattr(HarnessScorer, "load", load)
    return loaded


def listen(lm):
    """Sizes of the batches that go into a harness model from now on, [rows, tokens] each."""
    sizes = []
    lm.model.get_input_embeddings().register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape)))
    return sizes


def test_the_six_and_the_row_to_publish_cost_what_their_views_cost(tiny, scoring, run_files, references):
    reads = {}
    for name, attacks in (("group", groups()["mia"]), ("views", ("loss", "recall", "ref"))):
        lm = scoring.load(tiny("gpt2"), batch_size=4)
        reads[name] = listen(lm)
        run_files(lm, attacks)

    assert reads["group"] == reads["views"]
    # 30 texts, plain and after the shots, in batches of 4; besides: whether it is causal (2), the check of the head
    # (2), the prefix (1), and a few tokens after it (1).
    assert len(reads["group"]) == 8 + 2 + 2 + 8 + 1 + 1
    assert sum(rows for rows, _ in reads["group"]) == 30 + 2 + 2 + 30 + 1 + 1
    for _, read in references:
        assert len(read) == 8 + 2 + 2
    assert len(references) == 2
    gc.collect()
    assert all(model() is None for model, _ in references)


def test_the_reference_is_gone_before_the_run_goes_on(tiny, texts, scoring, views, references):
    specs = [json.dumps({"pretrained": str(tiny("gpt2", seed=seed)), "dtype": "float32"}) for seed in (1, 2)]
    requests = [request for spec in specs for request in views.under(texts[:3], spec)]
    scoring.ask(scoring.load(tiny("llama")), views.plain(texts[:3]) + requests)

    assert len(references) == 2  # one after the other: `load` above checks that the first is gone
    assert all(model() is None for model, _ in references)


def test_what_several_models_are_compared_with_is_asked_once(tiny, texts, scoring, views, references):
    specs = [json.dumps({"pretrained": str(tiny("gpt2", seed=seed)), "dtype": "float32"}) for seed in (1, 2)]
    targets, kept = [scoring.load(tiny("llama", seed=seed)) for seed in (0, 1)], {}
    with references_kept(kept):
        first, second = (scoring.ask(target, views.under(texts[:3], specs[0])) for target in targets)
        assert len(references) == 1
        scoring.ask(targets[0], views.under(texts[:4], specs[0]))  # one text that it was not asked about
        scoring.ask(targets[0], views.under(texts[:3], specs[1]))
        assert len(references) == 3
    for ours, theirs in zip(first, second, strict=True):
        assert ours is theirs
    scoring.ask(targets[0], views.under(texts[:3], specs[0]))
    assert len(references) == 4


def test_equal_texts_of_two_tasks_cost_one_forward(tiny, texts, scoring, views):
    lm = scoring.load(tiny("gpt2"))
    read = listen(lm)
    answers = scoring.ask(lm, views.plain(texts[:8]) * 3)

    assert [rows for rows, _ in read] == [1, 1, 1, 1, 8]
    assert answers[:8] == answers[8:16] == answers[16:]


def test_the_order_of_tasks_changes_nothing(tiny, scoring, run_files):
    lm = scoring.load(tiny("gpt2"), batch_size=4)
    attacks = [name for name, attack in ATTACKS.items() if not (attack.generates or attack.requires)]
    there = run_files(lm, attacks, log_samples=False)["results"]
    back = run_files(lm, attacks[::-1], log_samples=False)["results"]

    assert there.keys() == back.keys()
    for task, row in there.items():
        assert {name: value for name, value in row.items() if value == value} == {
            name: value for name, value in back[task].items() if value == value
        }


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2"])
def test_the_first_batch_costs_little_more_than_another(architecture, tiny, texts, scoring, views):
    """A way that does not work for a model is found out on a few tokens, not on the batch (mistral slides)."""
    lm = scoring.load(tiny(architecture), batch_size=8)
    read, original = [], lm.model.model.layers[0].forward
    lm.model.model.layers[0].forward = lambda hidden, *args, **kwargs: (
        read.append(hidden.shape[0] * hidden.shape[1]) or original(hidden, *args, **kwargs)
    )
    long = [f"{number} {' '.join(texts[1:4])}" for number in range(8)]
    scoring.ask(lm, views.plain(long))
    plain = sum(read)
    read.clear()
    scoring.ask(lm, views.after(long, texts[:1]))
    again = 8 * len(lm.tok_encode(texts[0])) if architecture == "gemma2" else 0  # it reads the prefix for every row
    assert sum(read) - again <= 1.5 * plain
