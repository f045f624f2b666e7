"""Servers: the figures of the same weights in process, and a sentence for each way to misbehave."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conformance import assert_same, conforms, views
from made_server import served

from midistill_tasks.errors import InputError
from midistill_tasks.scoring.backends.server.completions import CompletionsScorer
from midistill_tasks.scoring.backends.server.sglang import SGLangScorer
from midistill_tasks.scoring.requests import ViewRequest
from midistill_tasks.views import REFERENCE, TEXT, Unscored

pytest.importorskip("tenacity", reason="servers need lm-eval[api]")


@pytest.fixture(scope="module")
def stories(stories260k, scoring):
    """The model behind the server."""
    return scoring.load(stories260k)


@pytest.fixture
def server(stories):
    with served(stories) as (address, behaviour):
        yield SimpleNamespace(address=address, behaviour=behaviour)


@pytest.fixture
def client(server, stories260k):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    def make(**model_args: Any) -> Any:
        known = {
            "tokenizer": str(stories260k),
            "tokenizer_backend": "huggingface",
            "model": "served",
            "max_length": 513,
        }
        return LocalCompletionsAPI(base_url=server.address, **{**known, "max_retries": 2, **model_args})

    return make


@pytest.mark.parametrize("model_args", [{}, {"num_concurrent": 4}, {"batch_size": 3}])
def test_figures_are_those_of_the_same_weights_in_process(client, stories, texts, scoring, model_args):
    conforms(client(**model_args), stories, texts, scoring.ask, statistics=("logprob",))


def test_moments_are_not_there(client, texts, scoring):
    (refused,) = scoring.ask(client(), [ViewRequest(texts[0], TEXT, attack="minkpp", needs=frozenset({"moments"}))])
    assert "the attack 'minkpp' has no figure: it needs moments of each token" in refused.reason


def test_a_server_that_names_no_likeliest_token_serves_what_does_without(server, client, texts, scoring):
    server.behaviour.fault = "no_tops"
    plain = ViewRequest(texts[0], TEXT, attack="loss")
    greedy = ViewRequest(texts[0], TEXT, attack="ez", needs=frozenset({"logprob", "greedy"}))
    answer, refused = scoring.ask(client(), [plain, greedy])
    assert answer.has == {"logprob", "words", "tokens"}
    assert "the attack 'ez' has no figure: it needs greedy" in refused.reason


FAULTS = {
    "no_echo": "answers with the generated token only: it does not know echo",
    "off_by_one": "is off by one: what it says of a token depends on a token that comes after",
    "early": "is off by one: what it says of a token depends on a token that comes after",
    "truncates": r"gave back 10 of \d+ tokens, so that it cuts texts in silence: say how many it reads",
    "adds_a_token": r"gave back \d+ tokens for \d+: it puts tokens of its own around a prompt",
    "other_tokens": r"reads other tokens than the tokenizer makes \(0 of \d+ are the same\)",
    "no_logprobs": "gives no log-probabilities of a prompt: it answered",
    "positive": "gives no log-probability, or one above 0, of a token",
    "texts_only": "takes no token ids as a prompt, as llama-cpp-python's server does not",
    "moves": r"gives other figures the second time, by up to 1\.00 nats a token",
    "too_long": r"refuses \d+ tokens at once \(HTTP 400.*this model reads 8 tokens",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_misbehaves_is_named_and_has_no_figure(server, client, texts, scoring, fault, caplog):
    server.behaviour.fault = fault
    answers = scoring.ask(client(), views(texts[:2], texts[6:8]))
    assert all(isinstance(answer, Unscored) and answer.whole_task for answer in answers)
    assert server.behaviour.asked <= 3  # the probe
    assert f"no figures: {server.address} (served) " in caplog.text
    assert re.search(FAULTS[fault], answers[0].reason)


def test_a_busy_server_is_asked_again(server, client, texts, scoring):
    server.behaviour.busy = 1
    (answer,) = scoring.ask(client(max_retries=3), [ViewRequest(texts[0], TEXT)])
    assert len(answer) > 0
    assert server.behaviour.asked == 4


@pytest.mark.parametrize("concurrent", [1, 3])
def test_nothing_is_lost_where_a_server_dies(server, client, texts, scoring, tmp_path, monkeypatch, concurrent):
    from lm_eval.api.model import CachingLM

    monkeypatch.chdir(tmp_path)
    asked = [ViewRequest(text, TEXT) for text in texts[:12]]
    server.behaviour.left = 7
    kept = r"5 of 12 views were scored and are kept: go on with --use_cache midistill-rescued"
    with pytest.raises(InputError, match=rf"does not answer \(HTTP 500: .*; asked 2 times\); {kept}"):
        scoring.ask(client(num_concurrent=concurrent), asked)
    server.behaviour.left, server.behaviour.asked = 10**9, 0
    answers = scoring.ask(CachingLM(client(), str(tmp_path / "midistill-rescued.db")), asked)
    assert server.behaviour.asked == 2 + 7
    assert_same(answers, scoring.ask(client(), asked), 1e-5, ("logprob",))


def test_a_server_that_begins_to_misbehave_is_stopped_at(server, client, texts, scoring, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lm = client()
    original = CompletionsScorer._asked

    def later(self: Any, rows: Any) -> Any:
        answer = original(self, rows)
        if server.behaviour.asked == 3:  # twice the probe, and a text
            server.behaviour.fault = "truncates"
        return answer

    monkeypatch.setattr(CompletionsScorer, "_asked", later)
    with pytest.raises(InputError, match="it cuts texts in silence"):
        scoring.ask(lm, [ViewRequest(text, TEXT) for text in texts[:3]])


def test_identities_are_of_address_name_and_answers(server, client, stories, tiny, scoring):
    one = CompletionsScorer(client()).identity()
    assert one == CompletionsScorer(client()).identity()
    assert one != CompletionsScorer(client(model="another")).identity()
    weight = stories.model.model.norm.weight
    before = weight.detach().clone()
    weight.data *= 1.01  # what is served under the same name is another model
    try:
        assert one != CompletionsScorer(client()).identity()
    finally:
        weight.data.copy_(before)
    server.behaviour.fault = "no_echo"
    assert CompletionsScorer(client()).identity() is None


def test_the_reference_is_another_model_of_the_server_or_of_another(client, texts, scoring, tiny, stories260k):
    other = scoring.load(stories260k)
    other.model.model.norm.weight.data *= 1.5
    with served(other) as (address, _):
        spec = json.dumps({"model": "base", "base_url": address})
        own, under = scoring.ask(
            client(), [ViewRequest(texts[0], TEXT), ViewRequest(texts[0], REFERENCE, reference=spec)]
        )
    assert own.tokens.tolist() == under.tokens.tolist()
    assert not np.allclose(own.logprob, under.logprob)
    expected = scoring.ask(other, [ViewRequest(texts[0], TEXT)])[0]
    np.testing.assert_allclose(under.logprob, expected.logprob, atol=1e-4)


def test_texts_need_a_tokenizer_and_chats_give_nothing(server, texts, scoring):
    from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

    bare = LocalCompletionsAPI(base_url=server.address, model="served", tokenizer_backend="None")
    (answer,) = scoring.ask(bare, [ViewRequest(texts[0], TEXT)])
    assert "name its tokenizer with --model_args tokenizer=" in answer.reason
    chat = LocalChatCompletion(base_url=server.address, model="served")
    (answer,) = scoring.ask(chat, [ViewRequest(texts[0], TEXT)])
    assert "a chat API gives no log-probabilities of a text that it reads: mia_samia_…" in answer.reason
    assert server.behaviour.asked == 0


def test_sglang_s_answers_are_read_as_documented(stories260k):
    lm = SimpleNamespace(base_url="http://host/generate", model="served")
    recorded = {
        "text": " x",
        "meta_info": {
            "input_token_logprobs": [[None, 1, None], [-0.5, 7, None], [-2.0, 9, None]],
            "input_top_logprobs": [None, [[-0.5, 7, None]], [[-0.1, 3, None]]],
            "output_token_logprobs": [[-0.3, 4, None]],
        },
    }
    (echo,) = SGLangScorer(lm).parse([recorded])
    assert echo.logprobs == [None, -0.5, -2.0]
    assert echo.best == [None, -0.5, -0.1]
    assert echo.tokens == [1, 7, 9]
    assert echo.tops == [None, 7, 3]
