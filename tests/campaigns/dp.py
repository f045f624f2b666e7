"""Does a DP training keep its promise, as far as an audit in one run can tell? By trainings on canaries.

    python tests/campaigns/dp.py --runs 3    # the short form, which CI runs
    python tests/campaigns/dp.py             # 20 trainings a promise

Each canary is a token of its own after one that all share, so that nothing but its coin moves its row of the head:
about the strongest there are. A fair coin puts each into the training. The attack is how much likelier the canary
became; the bound on ε (Steinke, Nasr and Jagielski 2023) is at 95 % confidence and the promised δ.

It passes where the bound is below the promise in 95 % of the runs, rises with the promise, and is above it in most runs
of a training with a tenth of the noise: that one breaks its promise, and the audit must see it.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from typing import NamedTuple

os.environ |= {"OMP_NUM_THREADS": "1"}  # before the libraries that read it

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from midistill_tasks.distill.callbacks.progress import Progress
from midistill_tasks.distill.fine_tune import fine_tuning_trainer
from midistill_tasks.metrics import Scored
from midistill_tasks.metrics.epsilon import epsilon_lower_bound, guessed
from midistill_tasks.models.batching import token_statistics
from midistill_tasks.recipes.schema import DP, FineTune

CANARIES, DELTA = 400, 1e-5
HOW = FineTune(folder="", epochs=12, batch_size=50, learning_rate=0.02)


class Case(NamedTuple):
    """A promise, and by what the noise is divided."""

    epsilon: float
    too_little: float = 1.0

    def __str__(self) -> str:
        broken = f", a {self.too_little:.0f}th of its noise" if self.too_little > 1 else ""
        return f"ε {self.epsilon:g}{broken}"


CASES = (Case(1.0), Case(4.0), Case(16.0), Case(1.0, too_little=10))


def bound(case: Case, seed: int) -> float:
    """On ε, from one training."""
    coins = random.Random(f"coins {seed}")
    member = [coins.random() < 0.5 for _ in range(CANARIES)]
    texts = [[0, 1 + number] for number in range(CANARIES)]
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=CANARIES + 1, **sizes))
    before = likelihoods(model, texts)
    dp = DP(epsilon=case.epsilon, delta=DELTA)
    with tempfile.TemporaryDirectory() as scratch:
        trained_on = [text for text, chosen in zip(texts, member, strict=True) if chosen]
        trainer = fine_tuning_trainer(model, trained_on, HOW, seed, scratch, dp)
        trainer.at_once = CANARIES
        trainer.remove_callback(Progress)
        trainer.private._noisy.noise_multiplier /= case.too_little
        trainer.train()
    gains = [after - first for after, first in zip(likelihoods(model, texts), before, strict=True)]
    rows = zip(texts, member, gains, strict=True)
    found = guessed([Scored(int(chosen), gain, f"{text[1]:05}", "") for text, chosen, gain in rows], after="")
    return epsilon_lower_bound(found.correct, found.guesses, delta=DELTA, texts=found.texts)


def likelihoods(model: torch.nn.Module, texts: list[list[int]]) -> list[float]:
    """Of each canary after the token that all share."""
    return [float(text.logprob[0]) for text in token_statistics(model, texts, batch_size=CANARIES)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="trainings a promise")
    args = parser.parse_args()
    start, passed, means = time.monotonic(), True, []
    for case in CASES:
        bounds = [bound(case, seed) for seed in range(args.runs)]
        kept = sum(each <= case.epsilon for each in bounds) / len(bounds)
        means.append(sum(bounds) / len(bounds))
        right = kept <= 0.5 if case.too_little > 1 else kept >= 0.95
        passed &= right
        print(
            f"{case}: bound {means[-1]:.2f} on average, {max(bounds):.2f} at most; at or below the promise in"
            f" {kept:.0%} of {args.runs} runs{'' if right else '  <- wrong'} ({time.monotonic() - start:.0f} s)",
            flush=True,
        )
    if not means[0] < means[1] < means[2]:
        print(f"the bounds do not rise with the promise: {means[:3]}  <- wrong")
        passed = False
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
