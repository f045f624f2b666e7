"""A split through inspect_ai and a server of vLLM's shape, behind which is a tiny model of transformers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from midistill_tasks.errors import InputError

pytest.importorskip("inspect_ai", reason='pip install "midistill[inspect]"')
pytest.importorskip("openai", reason='pip install "midistill[inspect]"')
pytestmark = pytest.mark.slow

ATTACKS = "loss,zlib,mink,lowercase,pac"


class Served:
    """``POST /v1/completions`` as vLLM answers it; `template` goes around each prompt, as a chat's does."""

    def __init__(self, lm: Any) -> None:
        self.lm, self.template, self.gives = lm, "{}", True
        self.asked: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        tokenizer = self.lm.tokenizer
        ids = tokenizer(self.template.format(body["prompt"]))["input_ids"]
        with torch.no_grad():
            log_p = self.lm.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        rows: list[Any] = [None]
        for row, token in zip(log_p, ids[1:], strict=False):
            rows.append(
                {str(token): {"logprob": float(row[token]), "rank": 1, "decoded_token": tokenizer.decode(token)}}
            )
        choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        made = choice | ({"prompt_logprobs": rows} if self.gives else {})
        return {"id": "1", "object": "text_completion", "created": 0, "model": "tiny", "choices": [made]}


@pytest.fixture
def served(scoring: SimpleNamespace, tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    served = Served(scoring.load(tiny("llama")))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with served.lock:
                content = json.dumps(served.answer(body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads, request_queue_size = True, 128

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TINY_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("TINY_API_KEY", "none")
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture
def options(texts: list[str], tmp_path: Path) -> dict[str, Any]:
    made: dict[str, Any] = {"k": 0.3}
    for name, some in {"members": texts[:12], "nonmembers": texts[12:26]}.items():
        made[name] = str(tmp_path / f"{name}.jsonl")
        Path(made[name]).write_text("\n".join(json.dumps({"text": text}) for text in some))
    return made


def evaluated(folder: Path, **arguments: Any) -> Any:
    """As ``inspect eval midistill_tasks/mia``, by a name of its own: inspect keeps a model with its address."""
    from inspect_ai import eval as evaluate

    from midistill_tasks.offline.inspect import mia

    (log,) = evaluate(
        mia(**arguments), model=f"openai-api-completions/tiny/{folder.parent.name}", log_dir=str(folder), display="none"
    )
    return log


def test_the_figures_are_those_of_lm_eval(served, options, tmp_path):
    import lm_eval
    from lm_eval.tasks import TaskManager

    from midistill_tasks.harness import yaml_folder

    log = evaluated(tmp_path / "logs", attacks=ATTACKS, **options)
    assert log.status == "success", log.error
    manager = TaskManager(include_path=str(yaml_folder()), include_defaults=False, metadata={"mia": options})
    tasks = [f"mia_{attack}_files" for attack in ATTACKS.split(",")]
    expected = lm_eval.simple_evaluate(model=served.lm, tasks=tasks, task_manager=manager, bootstrap_iters=0)
    found = {
        score.name: {name.rpartition("/")[2]: metric for name, metric in score.metrics.items()}
        for score in log.results.scores
    }
    assert set(found) == set(ATTACKS.split(","))
    for attack, task in zip(ATTACKS.split(","), tasks, strict=True):
        for metric in ("auroc", "auroc_stderr"):
            assert found[attack][metric].value == pytest.approx(expected["results"][task][f"{metric},none"], abs=1e-9)
        scores = {sample.id: sample.scores["scores"].value[attack] for sample in log.samples}
        assert scores == pytest.approx(
            {sample["doc"]["id"]: sample["doc"]["score"] for sample in expected["samples"][task]}, rel=1e-5
        )
    blind = expected["configs"][tasks[0]]["metadata"]["midistill"]["blind_auroc"]
    assert log.eval.metadata["blind_auroc"] == blind["value"]
    assert {asked["prompt_logprobs"] for asked in served.asked} == {1}


def test_a_provider_without_prompt_logprobs_ends_the_run_with_what_to_take(served, options, tmp_path):
    served.gives = False
    log = evaluated(tmp_path / "logs", **options)
    assert log.status == "error"
    assert "gives no prompt_logprobs: take vllm-completions/MODEL" in log.error.message


def test_a_chat_template_is_noticed(served, options, tmp_path):
    served.template = "User: {} Assistant:"
    log = evaluated(tmp_path / "logs", **options)
    assert log.status == "error"
    assert "a chat template?" in log.error.message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"attacks": "minkpp"},
            "minkpp needs more than inspect's prompt_logprobs; attacks: loss, zlib, mink, lowercase, pac",
        ),
        ({"attacks": "los"}, "there is no attack 'los'"),
        ({"split": "file"}, "there is no split 'file'"),
        ({"k": [0.1, 0.2]}, "mink: an option that is a list"),
    ],
)
def test_what_cannot_be_is_said_before_any_call(options, given, said):
    from midistill_tasks.offline.inspect import mia

    with pytest.raises(InputError, match=said):
        mia(**options | given)
