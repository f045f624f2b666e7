"""The six attacks as one would write them on paper: one text at a time, token by token, in float64."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch


def log_distributions(model: Any, ids: list[int]) -> np.ndarray:
    """log p(· | ids[: t + 1]) in row t, float64 [T, V]."""
    with torch.no_grad():
        logits = model(torch.tensor([ids], device=model.device)).logits[0]
    return torch.log_softmax(logits.double(), dim=-1).cpu().numpy()


def statistics(model: Any, ids: list[int], start: int) -> np.ndarray:
    """ℓ, μ, σ of ids[start:], each under the distribution given everything before it; float64 [n, 3]."""
    table, rows = log_distributions(model, ids), []
    for t in range(start, len(ids)):
        log_p = table[t - 1]
        p = np.exp(log_p)
        finite = p > 0  # 0 · (−inf) = 0
        mean = np.sum(p[finite] * log_p[finite])
        variance = np.sum(p[finite] * log_p[finite] ** 2) - mean**2
        rows.append((log_p[ids[t]], mean, np.sqrt(max(variance, 1e-6))))
    return np.array(rows)


def mean_of_lowest(values: np.ndarray, k: float) -> float:
    return float(np.mean(np.sort(values)[: max(1, int(k * len(values)))]))


def mean_logprob(model: Any, tokenizer: Any, text: str, first_token: str = "skip") -> float:
    return float(np.mean(statistics(model, *_plain(tokenizer, text, first_token))[:, 0]))


def _plain(tokenizer: Any, text: str, first_token: str) -> tuple[list[int], int]:
    ids = tokenizer.encode(text)
    before = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return ([before, *ids], 1) if first_token == "prefix" and ids[0] != before else (ids, 1)


def scores(model: Any, tokenizer: Any, text: str, shots: list[str], k: float = 0.2, first_token: str = "skip") -> dict:
    """All attacks but `ref`, which is the difference of two `mean_logprob`s."""
    plain = statistics(model, *_plain(tokenizer, text, first_token))
    ids, prefix = tokenizer.encode(text), tokenizer.encode("".join(shots))
    after = statistics(model, prefix + ids, len(prefix) + len(ids) - len(plain))
    with_first = statistics(model, prefix + ids, len(prefix))
    loss, mu, sigma = np.mean(plain[:, 0]), plain[:, 1], plain[:, 2]
    return {
        "loss": loss,
        "zlib": loss / len(zlib.compress(text.encode("utf-8"))),
        "mink": mean_of_lowest(plain[:, 0], k),
        "minkpp": mean_of_lowest((plain[:, 0] - mu) / sigma, k),
        "recall": np.mean(after[:, 0]) / loss,
        "recall_as_published": np.mean(with_first[:, 0]) / loss,
    }
