"""``--model hf-mlm``: pseudo-log-likelihoods of masked language models (Salazar et al. 2020).

Each token is masked alone, and predicted from all others. The model is the harness's `HFLM` with another head.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from torch import Tensor
from transformers import AutoModelForMaskedLM

from midistill_tasks.errors import InputError, warn_once
from midistill_tasks.scoring.backends.hf.causal import HFScorer
from midistill_tasks.scoring.backends.hf.head import Statistics, from_logits
from midistill_tasks.scoring.protocol import Encoded, Job, Result, ends_of, scorer

logger = logging.getLogger(__name__)

Way = Literal["plain", "within_word_l2r", "as_published"]
PUBLISHED_SHARE, PUBLISHED_SEED = 0.15, 42
_BATCH = 64
"""Masked copies at once with ``batch_size=auto``."""


class _WithHead:
    """Loads a masked language model, and no other with a head that nobody trained."""

    @staticmethod
    def from_pretrained(name: str, *args: Any, **kwargs: Any) -> Any:
        try:
            model, about = AutoModelForMaskedLM.from_pretrained(name, *args, output_loading_info=True, **kwargs)
        except ValueError as error:
            if "Unrecognized configuration class" not in str(error):
                raise
            raise InputError(
                f"{name} is no masked language model: --model hf is for causal models, hf-mlm for such as BERT"
            ) from None
        if missing := sorted(about["missing_keys"]):
            raise InputError(
                f"{name} is not a whole masked language model: it has no weights for {missing[0]}"
                f"{f' and {len(missing) - 1} more' if missing[1:] else ''}, which would be random; name a checkpoint "
                "that was saved with its masked-LM head"
            )
        return model


class HFMaskedLM(HFLM):  # type: ignore[misc]
    """A masked language model as the harness loads models; only the tasks of token statistics run on it.

    Model arguments beside those of ``hf``:
        positions: ``all``, or how many tokens of each text are masked and predicted, drawn from the text itself.
        pll: ``plain``; ``within_word_l2r``, where the rest of the word is masked with its token (Kauf and Ivanova
            2023); ``as_published``, the loss of the first version of arXiv 2505.11837.
    """

    AUTO_MODEL_CLASS = _WithHead

    def __init__(self, pretrained: str, positions: int | str = "all", pll: Way = "plain", **kwargs: Any) -> None:
        """Raises:
        InputError: a value of `positions` or `pll` is none.
        """
        if pll not in ("plain", "within_word_l2r", "as_published"):
            raise InputError(f"--model_args pll={pll}: plain, within_word_l2r or as_published")
        if positions != "all" and not (str(positions).isdigit() and int(positions) > 1):
            raise InputError(f"--model_args positions={positions}: all, or a number of tokens a text from 2 on")
        if positions != "all" and pll == "as_published":
            raise InputError("--model_args pll=as_published takes no positions: it is one loss over all of them")
        self.positions, self.pll = None if positions == "all" else int(positions), pll
        super().__init__(pretrained, backend="causal", **kwargs)

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The sum of a text's pseudo-log-probabilities, in nats; a long one is read in parts of the model's length."""
        scoring = MaskedScorer(self)
        parts = [scoring.parts(request.args[0]) for request in requests]
        sums: dict[Job, float] = {}
        scoring.score(
            list(dict.fromkeys(job for jobs in parts for job in jobs)),
            lambda job, result: sums.update({job: float(result.logprob.mean()) * len(job.ids)}),
        )
        return [sum(sums[job] for job in jobs) for jobs in parts]

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """Raises:
        NotImplementedError: always; a masked model has no probability of a continuation.
        """
        raise NotImplementedError(
            "--model hf-mlm runs tasks of whole texts alone, such as mia_… and heldout_…: a masked language model does "
            "not go on from what it reads; leave the others out of --tasks"
        )

    generate_until = loglikelihood


class _Row(NamedTuple):
    """One copy of a text, with the token at `place` masked."""

    job: Job
    place: int


@scorer("HFMaskedLM", gives={"logprob", "greedy", "moments"})
class MaskedScorer(HFScorer):
    """Scores jobs with one `HFMaskedLM`; the batch size counts masked copies."""

    pseudo = "pseudo-log-likelihood"

    def __init__(self, lm: Any, variant: str = "") -> None:
        super().__init__(lm, f"{variant}:{lm.pll}:{lm.positions}")  # a whole text's sum is estimated from these
        self.pseudo = _NAMES[lm.pll].format(lm.positions or "all")
        self._words: dict[tuple[int, ...], Sequence[int | None]] = {}
        if getattr(lm, "tokenizer", None) is not None:
            sample = lm.tokenizer("a", add_special_tokens=False)["input_ids"]
            whole = lm.tokenizer("a")["input_ids"]
            start = next((n for n in range(len(whole)) if whole[n : n + len(sample)] == sample), 0)
            self.before, self.after = tuple(whole[:start]), tuple(whole[start + len(sample) :])

    @property
    def max_length(self) -> int:
        """Tokens of a text, without those that the tokenizer puts around it."""
        return self._longest

    @cached_property
    def _longest(self) -> int:
        known = [int(self.lm.max_length), int(self.lm.tokenizer.model_max_length)]
        for name, module in self.model.named_modules():
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                known.append(module.num_embeddings - module.padding_idx - 1)  # RoBERTa counts from there
        return min(known) - len(self.before) - len(self.after)

    @property
    def prefix_token(self) -> int | None:
        """None: what the tokenizer puts around a text is there already."""
        return None

    def refuses(self) -> str | None:
        """A model without a tokenizer or a mask."""
        tokenizer = getattr(self.lm, "tokenizer", None)
        if tokenizer is None:
            return "the model has no tokenizer; name one with --model_args tokenizer=…"
        if tokenizer.mask_token_id is None:
            return "its tokenizer has no mask token: --model hf-mlm is for masked language models such as BERT"
        if self.lm.pll == "within_word_l2r" and not tokenizer.is_fast:
            return "pll=within_word_l2r needs a fast tokenizer, which says what a word is"
        return None

    def encode(self, text: str) -> Encoded:
        """The tokens without those around them."""
        encoded = self.lm.tokenizer(text, add_special_tokens=False, verbose=False)
        ids = tuple(encoded["input_ids"])
        if self.lm.pll == "within_word_l2r":
            for start in range(0, len(ids), self.max_length):
                end = start + self.max_length
                self._words[ids[start:end]] = encoded.word_ids()[start:end]
        return Encoded(ids, lambda: ends_of(self.lm.tokenizer, text, ids))

    def parts(self, text: str) -> list[Job]:
        """The text's tokens, as many at once as the model reads."""
        ids, size = self.encode(text).ids, self.max_length
        pieces = [ids[start : start + size] for start in range(0, len(ids), size)]
        return [Job(piece, first=0, only=self.chosen(piece)) for piece in pieces]

    def shared_args(self) -> dict[str, Any]:
        """A reference model is scored in the same way."""
        return super().shared_args() | {"positions": self.lm.positions or "all", "pll": self.lm.pll}

    def chosen(self, ids: tuple[int, ...]) -> tuple[int, ...] | None:
        """A draw that the tokens themselves seed, so that a text has the same one everywhere."""
        count = self.lm.positions
        if count is None or count >= len(ids):
            return None
        digest = hashlib.sha256(np.asarray(ids, dtype="<i8").tobytes()).digest()
        drawn = np.random.default_rng(int.from_bytes(digest[:8], "little")).choice(len(ids), count, replace=False)
        return tuple(sorted(drawn.tolist()))

    def score(self, jobs: Sequence[Job], done: Callable[[Job, Result], None]) -> None:
        """Scores `jobs` longest first; each result is handed to `done` as soon as all its copies are through."""
        errors: list[float] = []
        with torch.inference_mode(), self._autocast():
            for job, result in self._published(jobs) if self.lm.pll == "as_published" else self._masked(jobs):
                if job.only is not None:
                    left = 1 - job.scored / len(job.ids)
                    errors.append(float(np.std(result.logprob, ddof=1) * np.sqrt(left / job.scored)))
                done(job, result)
        if errors:
            warn_once(
                f"positions={self.lm.positions}: by the draw of the tokens a text's mean log-probability has a "
                f"standard error of {np.median(errors):.3f} nats (median over {len(errors)} texts)"
            )

    def _masked(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        by_length: dict[int, list[_Row]] = defaultdict(list)
        for job in jobs:
            by_length[len(job.ids)] += [_Row(job, place) for place in job.places]
        size = _BATCH if self.lm.batch_size == "auto" else int(self.lm.batch_size)
        for length in sorted(by_length, reverse=True):
            rows, parts = by_length[length], dict[Job, list[tuple[Any, ...]]]()
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                columns = [column.cpu().numpy() for column in self._statistics(batch)]
                for row, figures in zip(batch, zip(*columns, strict=True), strict=True):
                    found = parts.setdefault(row.job, [])
                    found.append(figures)
                    if len(found) == row.job.scored:
                        yield row.job, _result(parts.pop(row.job))

    def _statistics(self, rows: Sequence[_Row]) -> Statistics:
        """Of the tokens that are masked, one a row; rows of equal length."""
        mask, lead = self.lm.tokenizer.mask_token_id, len(self.before)
        ids = torch.tensor([self.before + row.job.ids + self.after for row in rows])
        for number, row in enumerate(rows):
            for place in self._together(row):
                ids[number, lead + place] = mask
        at = torch.tensor([lead + row.place for row in rows])
        targets = torch.tensor([row.job.ids[row.place] for row in rows])
        logits = self._logits(ids.to(self.lm.device), at.to(self.lm.device))
        return from_logits(logits, targets.to(logits.device))

    def _together(self, row: _Row) -> list[int]:
        """The place itself and, within_word_l2r, those after it in its word."""
        if self.lm.pll != "within_word_l2r":
            return [row.place]
        words = self._words[row.job.ids]
        after = range(row.place, len(row.job.ids))
        return [place for place in after if words[place] == words[row.place]]

    def _logits(self, ids: Tensor, at: Tensor) -> Tensor:
        """[B, V] at one place of each row: only there does the head see a hidden state."""
        if self._short_way is None:
            whole = self.model(input_ids=ids[:1], attention_mask=torch.ones_like(ids[:1])).logits[0, at[0]]
            self._short_way = self._keeps(ids[:1], at[:1], whole)
        if not self._short_way:
            logits: Tensor = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            return logits[torch.arange(len(at)), at]
        return self._kept(ids, at)

    def _kept(self, ids: Tensor, at: Tensor) -> Tensor:
        def keep(module: Any, args: Any, output: Any) -> Any:
            output.last_hidden_state = output.last_hidden_state[torch.arange(len(at)), at][:, None]
            return output

        hook = self.model.base_model.register_forward_hook(keep)
        try:
            logits: Tensor = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            return logits[:, 0]
        finally:
            hook.remove()

    def _keeps(self, ids: Tensor, at: Tensor, whole: Tensor) -> bool:
        """Whether the head takes hidden states one by one, as those of all known families do."""
        try:
            kept = self._kept(ids, at)[0]
        except Exception as error:  # foreign code: a head that wants all of them
            logger.debug("the head wants all hidden states: %r", error)
            return False
        allowed = 64 * torch.finfo(self.model.dtype).eps * whole.float().abs().max()
        return kept.shape == whole.shape and bool((kept.float() - whole.float()).abs().max() <= allowed)

    def _published(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """One forward a text with 15 % of its tokens masked and out of the attention; all tokens are scored."""
        for job in jobs:
            ids = torch.tensor([self.before + job.ids + self.after])
            drawn = torch.rand(ids.shape, generator=torch.Generator().manual_seed(PUBLISHED_SEED)) < PUBLISHED_SHARE
            drawn[:, : len(self.before)] = drawn[:, ids.shape[1] - len(self.after) :] = False
            masked = ids.masked_fill(drawn, self.lm.tokenizer.mask_token_id).to(self.lm.device)
            logits = self.model(input_ids=masked, attention_mask=(~drawn).long().to(self.lm.device)).logits[0]
            own = logits[len(self.before) : len(self.before) + len(job.ids)]
            columns = from_logits(own, torch.tensor(job.ids, device=own.device))
            yield job, Result(*(column.cpu().numpy() for column in (columns.logprob, columns.greedy, *columns[1:3])))


_NAMES: dict[Way, str] = {
    "plain": "pseudo-log-likelihood (positions: {})",
    "within_word_l2r": "pseudo-log-likelihood within words from left to right (positions: {})",
    "as_published": "loss with 15 % of the tokens masked, as first published",
}


def _result(figures: Sequence[tuple[Any, ...]]) -> Result:
    logprob, mean, std, greedy = (np.array(column) for column in zip(*figures, strict=True))
    return Result(logprob, greedy=greedy, mean=mean, std=std)
