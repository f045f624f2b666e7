"""The attacks as one would write them on paper: one text at a time, token by token, in float64."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch

from midistill_tasks.attacks.pac import swapped


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
    """All attacks but those with a reference: `ref` is the difference of two `mean_logprob`s; `paired` has others."""
    plain = statistics(model, *_plain(tokenizer, text, first_token))
    ids, prefix = tokenizer.encode(text), tokenizer.encode("".join(shots))
    after = statistics(model, prefix + ids, len(prefix) + len(ids) - len(plain))
    with_first = statistics(model, prefix + ids, len(prefix))
    other = tokenizer.encode("".join(shots[::-1]))
    after_members = statistics(model, other + ids, len(other) + len(ids) - len(plain))
    loss, mu, sigma = np.mean(plain[:, 0]), plain[:, 1], plain[:, 2]
    return {
        "lowercase": mean_logprob(model, tokenizer, text.lower(), first_token) / loss,
        "pac": np.mean([spread(model, tokenizer, swapped(n, 0.3, text), first_token) for n in range(1, 6)])
        - spread(model, tokenizer, text, first_token),
        "surp": surprising(plain, 0.4 if k == 0.2 else k),
        "loss": loss,
        "zlib": loss / len(zlib.compress(text.encode("utf-8"))),
        "mink": mean_of_lowest(plain[:, 0], k),
        "minkpp": mean_of_lowest((plain[:, 0] - mu) / sigma, k),
        "recall": np.mean(after[:, 0]) / loss,
        "conrecall": (np.mean(after[:, 0]) - 0.5 * np.mean(after_members[:, 0])) / loss,
        "recall_as_published": np.mean(with_first[:, 0]) / loss,
    }


def divergence(model: Any, tokenizer: Any, text: str, corpus: list[str], first_token: str) -> float:
    everything = [token for other in corpus for token in tokenizer.encode(other)]
    ids, start = _plain(tokenizer, text, first_token)
    rows, parts, seen = statistics(model, ids, start), [], set()
    for token, row in zip(ids[start:], rows, strict=True):
        if token not in seen:
            seen.add(token)
            frequency = (everything.count(token) + 1) / (len(everything) + len(set(everything)) + 1)
            parts.append(min(np.exp(row[0]) * np.log(1 / frequency), 0.01))
    return float(np.mean(parts))


def gradient_norms(model: Any, tokenizer: Any, text: str, first_token: str) -> dict[str, list[float]]:
    ids, start = _plain(tokenizer, text, first_token)
    model.requires_grad_(True)
    table = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
    (-sum(table[t - 1, ids[t]] for t in range(start, len(ids))) / (len(ids) - start)).backward()
    groups = {
        "all": list(model.parameters()),
        "embedding": [model.get_input_embeddings().weight],
        "head": [model.get_output_embeddings().weight],
    }
    norms = {}
    for name, parameters in groups.items():
        flat = torch.cat([p.grad.double().flatten() for p in parameters if p.grad is not None])
        norms[name] = [float(flat.norm(p)) for p in (1, 2, float("inf"))]
    model.zero_grad(set_to_none=True)
    model.requires_grad_(False)
    return norms


def spread(model: Any, tokenizer: Any, text: str, first_token: str) -> float:
    rising = sorted(statistics(model, *_plain(tokenizer, text, first_token))[:, 0])
    top, bottom = max(1, int(0.05 * len(rising))), max(1, int(0.3 * len(rising)))
    return sum(rising[-top:]) / top - sum(rising[:bottom]) / bottom


def surprising(rows: np.ndarray, k: float, entropy: float = 2.0) -> float:
    lowest = sorted(range(len(rows)), key=lambda t: rows[t, 0])[: max(1, int(k * len(rows)))]
    sure = [rows[t, 0] for t in lowest if -rows[t, 1] < entropy]
    surest = min(lowest, key=lambda t: -rows[t, 1])
    return float(np.mean(sure)) if sure else float(rows[surest, 0])


def paired(model: Any, reference: Any, tokenizer: Any, text: str, first_token: str = "skip") -> dict[str, float]:
    """EZ-MIA and WBC, token by token and window by window; both models have the tokenizer."""
    ids, start = _plain(tokenizer, text, first_token)
    mine, theirs = log_distributions(model, ids), log_distributions(reference, ids)
    gaps = [mine[t - 1][ids[t]] - theirs[t - 1][ids[t]] for t in range(start, len(ids))]
    errs = [ids[t] != int(np.argmax(mine[t - 1])) for t in range(start, len(ids))]
    chosen = [gap for gap, err in zip(gaps, errs, strict=True) if err] if any(errs) else gaps
    gained, lost = sum(g for g in chosen if g > 0), sum(-g for g in chosen if g < 0)
    shares = []
    for w in (2, 3, 4, 6, 9, 13, 18, 25, 32, 40):
        windows = [sum(gaps[i : i + w]) > 0 for i in range(len(gaps) - w + 1)]
        shares += [sum(windows) / len(windows)] if windows else []
    return {"ez": gained / (lost + 1e-6), "wbc": sum(shares) / len(shares) if shares else float("nan")}
