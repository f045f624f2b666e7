"""An OpenAI-compatible server with a model of the harness behind it, which may misbehave as real ones do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

FAULTS = (
    "no_echo",
    "off_by_one",
    "truncates",
    "adds_a_token",
    "other_tokens",
    "no_logprobs",
    "positive",
    "too_long",
    "texts_only",
    "moves",
)


class Behaviour:
    """What the server does; may be changed while it runs.

    Attributes:
        fault: one of `FAULTS`, or "".
        busy: how many requests are answered with 503 first.
        left: how many requests are answered at all.
    """

    def __init__(self, lm: Any) -> None:
        self.lm, self.fault, self.busy, self.left, self.asked = lm, "", 0, 10**9, 0
        self.lock = threading.Lock()


@contextmanager
def served(lm: Any) -> Iterator[tuple[str, Behaviour]]:
    """Its address, and how it behaves."""
    behaviour = Behaviour(lm)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with behaviour.lock:
                status, answer = _answer(behaviour, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/completions", behaviour
    finally:
        server.shutdown()
        server.server_close()


def _answer(behaviour: Behaviour, body: dict[str, Any]) -> tuple[int, Any]:
    behaviour.asked += 1
    if behaviour.busy > 0:
        behaviour.busy -= 1
        return 503, {"error": "busy"}
    if behaviour.left <= 0:
        return 500, {"error": "gone"}
    behaviour.left -= 1
    prompts = body["prompt"]
    if behaviour.fault == "texts_only" and not isinstance(prompts[0], str):
        return 500, {"error": "Input should be a valid string"}
    if isinstance(prompts[0], str):
        return (200, {}) if behaviour.fault == "texts_only" else (400, {"error": "ids only"})
    if behaviour.fault == "too_long":
        return 400, {"error": "this model reads 8 tokens"}
    assert (body["echo"], body["max_tokens"], body["logprobs"]) == (True, 1, 1)
    choices = [_choice(behaviour, index, ids) for index, ids in enumerate(prompts)]
    return 200, {"choices": choices[::-1]}  # in no order


def _choice(behaviour: Behaviour, index: int, ids: list[int]) -> dict[str, Any]:
    lm, fault = behaviour.lm, behaviour.fault
    ids = ids[:10] if fault == "truncates" else [ids[0], *ids] if fault == "adds_a_token" else ids
    with torch.no_grad():
        log_p = lm.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    words = [lm.tokenizer.decode([token]) for token in ids]
    likeliest = log_p.argmax(-1).tolist()
    own: list[float | None] = [None, *log_p[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()]
    tops: list[dict[str, float] | None] = [
        None, *({lm.tokenizer.decode([best]): float(row[best])} for best, row in zip(likeliest, log_p, strict=True)),
    ]  # fmt: skip
    for word, logprob, top in zip(words, own, tops, strict=False):
        if top is not None and logprob is not None:
            top.setdefault(word, logprob)
    own.append(float(log_p[-1].max()))
    words.append(lm.tokenizer.decode([likeliest[-1]]))
    if fault == "early":
        own, tops = [None, *own[2:], own[-1]], [None, *tops[2:], tops[-1]]
    if fault == "off_by_one":  # as llama-cpp-python: after having read it
        read = log_p.gather(1, torch.tensor(ids)[:, None])[:, 0].tolist()
        own, tops = [None, *read[1:], own[-1]], [None, *tops[2:], tops[-1]]
    if fault == "no_echo":
        own, tops, words = own[-1:], tops[-1:], words[-1:]
    if fault == "moves":
        own = [None if value is None else value - behaviour.asked for value in own]
    if fault == "other_tokens":
        words = ["?!"] * len(words)
    if fault == "positive":
        own = [None if value is None else -value for value in own]
    said = {"token_logprobs": own, "top_logprobs": None if fault == "no_tops" else tops, "tokens": words}
    return {"index": index, "text": "".join(words), **({} if fault == "no_logprobs" else {"logprobs": said})}
