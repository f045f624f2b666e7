"""--use_cache: a killed run goes on where it was, and nothing but the same model's same tokens is ever served."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import warm

from midistill_tasks.scoring.backends.hf.causal import fingerprint
from midistill_tasks.scoring.cache import StatsCache
from midistill_tasks.scoring.protocol import HarnessScorer, Job, Result


def result(logprob, mean, std, greedy):
    return Result(logprob, greedy=greedy, mean=mean, std=std)


def test_what_was_scored_is_served_as_it_was(tiny, texts, scoring, views, cached, scored):
    requests = views.plain(texts[:9]) + views.after(texts[2:9], texts[:2])
    first = scoring.ask(cached(tiny("gpt2")), requests)
    again = scoring.ask(cached(tiny("gpt2")), requests + views.plain(texts[9:11]))

    assert scored == [16, 2]
    views.assert_same(again[:16], first, tolerance=0)
    for one, other in zip(again, first, strict=False):
        assert one.greedy.tolist() == other.greedy.tolist()


def test_the_file_lies_beside_the_harness_s_and_is_shared_by_ranks(tiny, tmp_path, cached):
    from types import SimpleNamespace

    assert HarnessScorer(cached(tiny("gpt2"))).cache_file == tmp_path / "cache.midistill.db"
    store = SimpleNamespace(filename=str(tmp_path / "cache_rank1.db"))
    assert (
        HarnessScorer(SimpleNamespace(cache_hook=SimpleNamespace(dbdict=store))).cache_file
        == tmp_path / "cache.midistill.db"
    )


def test_without_the_flag_there_is_no_file(tiny, texts, scoring, views, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lm = scoring.load(tiny("gpt2"))
    scoring.ask(lm, views.plain(texts[:1]))

    assert HarnessScorer(lm).cache_file is None
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_lacks_what_the_model_gives_by_now_is_made_again(
    tiny, texts, scoring, views, cached, monkeypatch
):
    from midistill_tasks.scoring.backends.hf.causal import HFScorer
    from midistill_tasks.scoring.cache import StatsCache as Cache

    put = Cache.put
    monkeypatch.setattr(Cache, "put", lambda self, job, found: put(self, job, Result(found.logprob)))
    monkeypatch.setattr(HFScorer, "at_best", frozenset({"logprob"}))
    scoring.ask(cached(tiny("gpt2")), views.plain(texts[:3]))
    monkeypatch.undo()
    answers = scoring.ask(cached(tiny("gpt2")), views.plain(texts[:3]))
    assert all(answer.has >= {"logprob", "greedy", "moments"} for answer in answers)


# ---------------------------------------------------------------------- never another's figures


def test_another_model_in_the_same_folder_is_not_served(tiny, texts, scoring, views, cached, scored, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny("gpt2"), folder)
    before = scoring.ask(cached(folder), views.plain(texts[:4]))
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.0.ln_1.bias"][5] += 0.5  # one number
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    after = scoring.ask(cached(folder), views.plain(texts[:4]))

    assert scored == [4, 4]
    assert all((one.logprob != other.logprob).any() for one, other in zip(after, before, strict=True))


def test_another_configuration_of_the_same_weights_is_not_served(tiny, texts, scoring, views, cached, scored, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny("gemma2"), folder)
    scoring.ask(cached(folder), views.plain(texts[:3]))
    config = (folder / "config.json").read_text()
    assert '"final_logit_softcapping": 30.0' in config
    (folder / "config.json").write_text(
        config.replace('"final_logit_softcapping": 30.0', '"final_logit_softcapping": 3.0')
    )
    scoring.ask(cached(folder), views.plain(texts[:3]))

    assert scored == [3, 3]


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"mixed_precision_dtype": "bfloat16"}])
def test_another_precision_is_not_served(change, tiny, texts, scoring, views, cached, scored):
    scoring.ask(cached(tiny("gpt2")), views.plain(texts[:3]))
    scoring.ask(cached(tiny("gpt2"), **change), views.plain(texts[:3]))

    assert scored == [3, 3]


def test_another_tokenizer_is_not_served(tiny, texts, scoring, views, cached, scored):
    """Of the same size: the same text has other tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny("gpt2"))
    merges = AutoTokenizer.from_pretrained(tiny("llama"))
    scoring.ask(cached(tiny("gpt2"), tokenizer=tokenizer), views.plain(texts[:3]))
    scoring.ask(cached(tiny("gpt2"), tokenizer=merges), views.plain(texts[:3]))

    assert scored == [3, 3]


def test_a_model_in_another_folder_is_served(tiny, texts, scoring, views, cached, scored, tmp_path):
    shutil.copytree(tiny("gpt2"), tmp_path / "copy")
    scoring.ask(cached(tiny("gpt2")), views.plain(texts[:3]))
    scoring.ask(cached(tmp_path / "copy", batch_size=1), views.plain(texts[:3]))

    assert scored == [3, 0]


def test_parameters_that_change_tokens_are_not_served(tiny, texts, scoring, views, cached, scored):
    calls = [
        (cached(tiny("gpt2")), views.plain(texts[2:5])),
        (cached(tiny("gpt2")), views.plain(texts[2:5], first_token="prefix")),
        (cached(tiny("gpt2")), views.after(texts[2:5], texts[:1])),
        (cached(tiny("gpt2")), views.after(texts[2:5], texts[:2])),
        (cached(tiny("gpt2")), views.after(texts[2:5], texts[:2], first_token="always")),
        (cached(tiny("gpt2"), max_length=12), views.plain(texts[2:5])),
    ]
    for lm, requests in calls:
        scoring.ask(lm, requests)
    assert scored == [3] * len(calls)

    for lm, requests in calls:
        scoring.ask(lm, requests)
    assert scored[len(calls) :] == [0] * len(calls)


def test_where_the_prefix_ends_is_part_of_the_key(tmp_path):
    cache = StatsCache(tmp_path / "c.db", "model")
    arrays = (*np.zeros((3, 2), dtype=np.float32), np.zeros(2, dtype=bool))
    cache.put(Job((3, 4, 5), (1, 2)), result(*arrays))

    assert cache.get(Job((3, 4, 5), (1, 2))) is not None
    for other in (Job((4, 5), (1, 2, 3)), Job((1, 2, 3, 4, 5)), Job((3, 4, 5), (1, 2), first=0), Job((3, 4, 5))):
        assert cache.get(other) is None
    assert StatsCache(tmp_path / "c.db", "other").get(Job((3, 4, 5), (1, 2))) is None


@pytest.mark.parametrize(
    "given", [("logprob",), ("logprob", "greedy"), ("logprob", "mean", "std"), ("logprob", "mean", "std", "greedy")]
)
def test_what_a_backend_does_not_give_is_not_there_when_it_comes_back(given, tmp_path):
    arrays = {name: np.arange(4, dtype=np.float32) + number for number, name in enumerate(given)}
    if "greedy" in given:
        arrays["greedy"] = np.array([True, False, True, True])
    cache = StatsCache(tmp_path / "c.db", "model")
    cache.put(Job((1, 2, 3, 4, 5)), Result(**arrays))

    back = cache.get(Job((1, 2, 3, 4, 5)))
    for name in ("logprob", "mean", "std", "greedy"):
        found = getattr(back, name)
        assert (found is None) == (name not in given)
        assert found is None or found.tolist() == arrays[name].tolist()


def test_an_adapter_switched_off_is_another_model(tiny, texts, scoring, views, cached, scored):
    from peft import LoraConfig, get_peft_model

    lm = cached(tiny("llama"))
    plain = fingerprint(lm)
    torch.manual_seed(0)
    lm._model = get_peft_model(lm.model, LoraConfig(target_modules=["q_proj"], init_lora_weights=False)).eval()
    adapted = fingerprint(lm)
    requests = views.plain(texts[:3]) + views.under(texts[:3], "base")
    first = scoring.ask(lm, requests)
    again = scoring.ask(lm, requests)

    assert plain != adapted
    assert scored == [3, 3, 0, 0]
    views.assert_same(again, first, tolerance=0)
    assert all((on.logprob != off.logprob).any() for on, off in zip(again[:3], again[3:], strict=True))


def test_the_reference_and_the_target_do_not_mix(tiny, texts, scoring, views, cached, scored):
    import json

    reference = json.dumps({"pretrained": str(tiny("gpt2", seed=1)), "dtype": "float32"})
    requests = views.plain(texts[:3]) + views.under(texts[:3], reference)
    first = scoring.ask(cached(tiny("gpt2")), requests)
    again = scoring.ask(cached(tiny("gpt2")), requests)

    assert scored == [3, 3, 0, 0]
    views.assert_same(again, first, tolerance=0)
    views.assert_same(again[3:], scoring.ask(scoring.load(tiny("gpt2", seed=1)), views.plain(texts[:3])))


def test_weights_that_are_not_in_memory_are_not_cached(tiny, texts, scoring, views, cached, scored, caplog):
    from accelerate import cpu_offload

    for _ in range(2):
        lm = cached(tiny("llama"))
        cpu_offload(lm.model, execution_device=torch.device("cpu"))
        scoring.ask(lm, views.plain(texts[:3]))

    assert scored == [3, 3]
    assert "weights are offloaded" in caplog.text


# ---------------------------------------------------------------------- several at once, and killed


def test_two_connections_write_at_once(tmp_path):
    """Each opens the new file, writes a hundred results and reads the other's."""
    start = threading.Barrier(2)

    def write(me):
        start.wait()
        cache = StatsCache(tmp_path / "shared.db", "model")
        for number in range(100):
            figures = np.full((3, 4), me + number, dtype=np.float32)
            cache.put(Job((number, 1, 2, 3, 4 + me)), result(*figures, np.ones(4, dtype=bool)))
        cache.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (0, 1)))

    cache = StatsCache(tmp_path / "shared.db", "model")
    for me in (0, 1):
        for number in range(100):
            logprob = cache.get(Job((number, 1, 2, 3, 4 + me))).logprob
            assert logprob.tolist() == [me + number] * 4


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
import conftest
from lm_eval.api.model import CachingLM
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import TEXT

lm = conftest.load({folder!r}, batch_size=2)
CachingLM(lm, {cache!r})
batches = 0

def count(module, args):
    global batches
    batches += 1
    if batches == 2 + 2 + 6:  # two ask whether it is causal, two check the head
        os.kill(os.getpid(), signal.SIGKILL)

lm.model.get_input_embeddings().register_forward_pre_hook(count)
conftest.ask(lm, [ViewRequest(text, TEXT) for text in {texts!r}])
"""


def test_a_killed_run_goes_on_where_it_was(tiny, texts, scoring, views, cached, scored, tmp_path, request, caplog):
    folder, cache = str(tiny("gpt2")), str(tmp_path / "cache_rank0.db")
    program = KILLED.format(tests=str(request.config.rootpath / "tests"), folder=folder, cache=cache, texts=texts[:20])
    killed = warm.run([sys.executable, "-c", program])
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    with caplog.at_level("INFO"):
        answers = scoring.ask(cached(tiny("gpt2")), views.plain(texts[:20]))

    assert scored == [10]  # five batches of two were through
    assert "10 of 20 views come from" in caplog.text
    views.assert_same(answers, scoring.ask(scoring.load(tiny("gpt2")), views.plain(texts[:20])))


def test_a_file_of_something_else_is_left_alone(tiny, texts, scoring, views, cached, tmp_path):
    """The harness's own entries and ours never meet: each has its own file."""
    scoring.ask(cached(tiny("gpt2")), views.plain(texts[:1]))
    tables = sqlite3.connect(tmp_path / "cache_rank0.db").execute("SELECT name FROM sqlite_master").fetchall()
    assert ("stats",) not in tables
