"""What acts behind the head when the student scores. In training it would be learnt away, or make the loss infinite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from midistill_tasks.errors import InputError
from midistill_tasks.methods import Intervention, intervention

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class _BehindTheHead(Intervention):
    def fold(self, model: nn.Module, config: Any, state: dict[str, Tensor]) -> None:
        """Never."""
        raise InputError(
            f"{type(model).__name__}: no stock architecture has a red list or a temperature; train a student without"
        )


@intervention("red_list", "tokens (or their ids) that the student gives no probability, in its forward")
class RedList(_BehindTheHead):
    """−inf for these tokens."""

    tokens: list[str | int] = Field(min_length=1)

    def with_tokens(self, tokenizer: PreTrainedTokenizerBase) -> RedList:
        """Ids in place of words; InputError for a word of several tokens."""
        return RedList(tokens=[_token_id(token, tokenizer) for token in self.tokens])

    def apply(self, model: PreTrainedModel, config: Any) -> None:
        """Checks the ids."""
        wrong = [i for i in self.tokens if not isinstance(i, int) or not 0 <= i < config.vocab_size]
        if wrong:
            raise InputError(f"red_list: {wrong[0]} is no token id; give ids from 0 to {config.vocab_size - 1}")

    def logits(self, x: Tensor) -> Tensor:
        """−inf at the ids."""
        import torch

        return x.index_fill(-1, torch.tensor(self.tokens, dtype=torch.long, device=x.device), float("-inf"))


@intervention("temperature", "divides the student's logits in its forward")
class Temperature(_BehindTheHead):
    """Flatter, or sharper, distributions."""

    by: float = Field(gt=0)

    @property
    def changes_model(self) -> bool:
        """Not by 1."""
        return self.by != 1

    def logits(self, x: Tensor) -> Tensor:
        """Divided."""
        return x / self.by


def _token_id(token: str | int, tokenizer: PreTrainedTokenizerBase) -> int:
    if isinstance(token, int):
        return token
    vocabulary = tokenizer.get_vocab()
    if token in vocabulary:
        return int(vocabulary[token])
    ids = tokenizer(token, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise InputError(f"interventions.red_list: {token!r} is {len(ids)} tokens, not one: list its tokens or ids")
    return int(ids[0])
