"""``--model llamacpp``: a GGUF file in this process, by llama-cpp-python; all statistics from whole rows of logits."""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from midistill_tasks.errors import InputError
from midistill_tasks.scoring.backends.hf.head import Statistics, from_logits
from midistill_tasks.scoring.protocol import Encoded, HarnessScorer, Job, Result, scorer

logger = logging.getLogger(__name__)

_ELEMENTS = 2**24
"""Logits that are in memory at once, 64 MB."""
_F32 = 0
"""GGML's number for it."""
_LONGEST = 4096
"""Tokens that are read at once unless the user says more: their keys and values take memory."""


class LlamaCppLM(TemplateLM):  # type: ignore[misc]
    """A GGUF model for the harness's tasks.

    Model arguments:
        path: of the GGUF file (or ``pretrained``).
        max_length: tokens that it reads at once; by default as many as it was trained for, 4,096 at most.
        further ones: of ``llama_cpp.Llama``, such as ``n_gpu_layers=-1`` or ``n_threads=8``.
    """

    batch_size = 1

    def __init__(
        self,
        path: str | None = None,
        pretrained: str | None = None,
        max_length: int | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        """What the harness says of batches and devices has no meaning here.

        Raises:
            InputError: llama-cpp-python is not there, or there is no such file.
        """
        super().__init__()
        try:
            from llama_cpp import Llama
        except ImportError as error:
            raise InputError(
                f"--model llamacpp needs llama-cpp-python ({error}): pip install 'midistill[llamacpp]'"
            ) from None
        self.path = Path(path or pretrained or "").expanduser()
        if not self.path.is_file():
            raise InputError(f"--model_args path={self.path}: there is no such GGUF file")
        trained, self.n_vocab = _sizes(self.path)
        self.max_length = int(max_length or min(trained, _LONGEST))
        rows = max(16, min(512, self.max_length, _ELEMENTS // self.n_vocab))
        exact = {"type_k": _F32, "type_v": _F32}  # llama.cpp's own default, float16, moves the figures by 2e-4
        given = {"n_ctx": self.max_length, "n_batch": rows, "verbose": False, **exact, **kwargs}
        self.llama = Llama(str(self.path), **given)
        weakref.finalize(self, self.llama.close)  # its own finalizer fails where Python ends
        self._prefix: tuple[int, ...] = ()
        self._after_prefix: np.ndarray[Any, Any] = np.empty(0, dtype=np.float32)

    @property
    def eot_token_id(self) -> int:
        """End of text."""
        return int(self.llama.token_eos())

    @property
    def prefix_token_id(self) -> int:
        """Beginning of text, or the end where there is none."""
        bos = int(self.llama.token_bos())
        return bos if bos >= 0 else self.eot_token_id

    @property
    def max_gen_toks(self) -> int:
        """As the harness's other models have it."""
        return 256

    def tok_encode(self, string: str, add_special_tokens: bool = True, **kwargs: Any) -> list[int]:
        """The file's own tokens; what it puts in front of a text, too, unless that is not wanted."""
        return list(self.llama.tokenize(string.encode("utf-8"), add_bos=add_special_tokens, special=False))

    def ends(self, text: str, ids: Sequence[int]) -> list[int]:
        """The character at which each token ends; one that ends within a character, after it."""
        sizes = [len(self.llama._model.detokenize([token])) for token in ids]
        raw = text.encode("utf-8")
        begun = [0, *accumulate(byte & 0xC0 != 0x80 for byte in raw)]
        in_front = max(0, sum(sizes) - len(raw))  # a space that the tokenizer puts there
        return [begun[min(len(raw), max(0, end - in_front))] for end in accumulate(sizes)]

    def rows(self, prefix: tuple[int, ...], ids: Sequence[int]) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        """Blocks of logits float32 [n, V], each with the place in `ids` of the token after which its first row stands.

        After a prefix, which is read once for texts in a row, the first block is the row after its last token, at −1.
        The blocks are llama.cpp's own memory: use each before the next.
        """
        if prefix != self._prefix or not prefix:
            self.llama._ctx.kv_cache_clear()
            for _, block in self._decoded(prefix, 0):
                self._after_prefix = block[-1:].copy()
            self._prefix = prefix
        else:
            self.llama._ctx.kv_cache_seq_rm(-1, len(prefix), -1)
        if prefix:
            yield -1, self._after_prefix
        yield from self._decoded(ids, len(prefix))

    def _decoded(self, ids: Sequence[int], past: int) -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
        context, batch = self.llama._ctx, self.llama._batch
        for start in range(0, len(ids), self.llama.n_batch):
            part = list(ids[start : start + self.llama.n_batch])
            batch.set_batch(batch=part, n_past=past + start, logits_all=True)
            context.decode(batch)
            yield start, np.ctypeslib.as_array(context.get_logits(), shape=(len(part), self.n_vocab))

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        scoring, answers = LlamaCppScorer(self), []
        for _, context, continuation in tqdm(requests, disable=disable_tqdm, desc="Scoring continuations"):
            ids = tuple([*context, *continuation][-self.max_length - 1 :])
            result = scoring.result(Job(ids, first=max(1, len(ids) - len(continuation))))
            assert result.greedy is not None  # noqa: S101  it always is
            answers.append((float(result.logprob.sum(dtype=np.float64)), bool(result.greedy.all())))
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """By windows of the model's length, as the harness's other models do."""
        sums = []
        for request in tqdm(requests, disable=disable_tqdm, desc="Scoring whole texts"):
            windows = map(
                make_disjoint_window,
                get_rolling_token_windows(
                    token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.max_length,
                    context_len=1,
                ),
            )
            parts = self._loglikelihood_tokens([(None, *window) for window in windows], disable_tqdm=True)
            sums.append(sum(part for part, _ in parts))
        return sums

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """One after another."""
        made = []
        for request in tqdm(requests, disable=disable_tqdm, desc="Generating"):
            context, given = request.args
            length = int(given.get("max_gen_toks", self.max_gen_toks))
            ids = self.tok_encode(context)[-(self.max_length - length) :]
            until = [given["until"]] if isinstance(given.get("until"), str) else list(given.get("until") or [])
            warmth = float(given.get("temperature", 0.0)) if given.get("do_sample", False) else 0.0
            answer = self.llama.create_completion(
                ids, max_tokens=length, temperature=warmth, stop=until, top_p=1.0, top_k=0
            )
            made.append(str(answer["choices"][0]["text"]))
        self._prefix = ()  # another text stands in the memory of the model
        return made


def _sizes(path: Path) -> tuple[int, int]:
    """How many tokens the model was trained to read at once, and how many it knows, without loading its weights."""
    import llama_cpp
    from llama_cpp._internals import LlamaModel

    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = LlamaModel(path_model=str(path), params=params, verbose=False)
    about, known = model.metadata(), model.n_vocab()
    model.close()
    return int(about.get(f"{about.get('general.architecture')}.context_length", _LONGEST)), int(known)


@scorer("LlamaCppLM", gives={"logprob", "greedy", "moments"})
class LlamaCppScorer(HarnessScorer):
    """Scores jobs one after another, those after one prefix in a row."""

    def identity(self) -> str | None:
        """A hash over the file."""
        digest = xxhash.xxh3_128()
        with open(self.lm.path, "rb") as file, contextlib.ExitStack() as stack:
            size = self.lm.path.stat().st_size
            bar = stack.enter_context(
                tqdm(total=size, unit="B", unit_scale=True, desc="Hashing the model", leave=False)
            )
            while block := file.read(2**24):
                digest.update(block)
                bar.update(len(block))
        return f"gguf:{digest.hexdigest()}"

    def encode(self, text: str) -> Encoded:
        """By the file's own tokenizer."""
        ids = tuple(self.lm.tok_encode(text))
        return Encoded(ids, lambda: self.lm.ends(text, ids))

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """By prefix, longest first."""
        for job in sorted(jobs, key=lambda job: (job.prefix, -len(job.ids))):
            done(job, self.result(job))

    def result(self, job: Job) -> Result:
        """One job's figures."""
        parts: list[Statistics] = []
        first = job.first - 1  # the row after this place in `ids` predicts the first token that is scored
        for start, block in self.lm.rows(job.prefix, job.ids[:-1]):
            use = block[max(0, first - start) :]
            if len(use):
                begin = max(start, first) + 1
                targets = torch.tensor(job.ids[begin : begin + len(use)])
                parts.append(from_logits(torch.from_numpy(use), targets))
        columns = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
        logprob, mean, std, greedy = columns
        return Result(logprob, greedy=greedy, mean=mean, std=std)
