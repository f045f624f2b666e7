"""What scoring hands to the attacks: a text seen in some way (a view) and the statistics of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
T = TypeVar("T")

Statistic = Literal["logprob", "greedy", "moments", "words", "tokens", "frequency", "gradient"]
"""What an attack may need: ℓ; whether the token was the arg-max; μ and σ; the words that were scored; the tokens; how
often they occur in other texts; norms of the loss's gradient. See `OF_TEXT` for those that no backend gives."""
OF_TEXT: frozenset[Statistic] = frozenset({"words", "tokens", "frequency"})
"""Statistics that come with the text, whatever the backend."""


@dataclass(frozen=True)
class Prompt:
    """What a model is to go on from, and how.

    Attributes:
        context: the beginning of a text.
        rest: how the text itself goes on.
        samples: how many continuations.
        gen_kwargs: of the harness's ``generate_until``.
    """

    context: str
    rest: str
    samples: int
    gen_kwargs: Mapping[str, Any]


@dataclass(frozen=True)
class View:
    """One way of showing a text to a model: transform × prefix × model. Equal views of equal texts cost one forward.

    Attributes:
        name: the attack's parameter that receives the statistics; no two views that differ have one.
        transform: of the text before it is tokenised; None = as it is. Compared by identity: give a function of a
            module, or one that `bound` made, not a lambda made anew.
        prefix: what the model reads first: nothing, the ReCaLL prefix P (non-member shots), or member shots.
        model: the model under evaluation, or the reference model of the run.
        first_token: whether the text's first token is scored: as the run's option says, or always (where a prefix
            predicts it).
        gradient: whether the norms of the loss's gradient are computed, too, one text at a time.
        prompt: instead of scoring the text: what of it the model is to continue; its answer is a `Generated`.
    """

    name: str
    transform: Callable[[str], str] | None = None
    prefix: Literal["none", "shots", "member_shots"] = "none"
    model: Literal["target", "reference"] = "target"
    first_token: Literal["as asked", "always"] = "as asked"
    gradient: bool = False
    prompt: Callable[[str], Prompt] | None = None

    @property
    def knows_labels(self) -> bool:
        """Whether its statistics depend on which texts are members, beside the model."""
        return self.prefix != "none"

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the run that it depends on."""
        shots = ("shots",) if self.knows_labels else ()
        reference = ("reference",) if self.model == "reference" else ()
        return (*shots, *reference, *(() if self.prompt else ("first_token",)))

    def of(self, text: str) -> str:
        """The text as this view shows it."""
        return text if self.transform is None else self.transform(text)


@cache
def bound(function: Callable[..., T], *arguments: Any) -> Callable[..., T]:
    """The function with its first arguments; one object for equal ones, so that views with it are equal, too."""
    return partial(function, *arguments)


TEXT = View("text")
REFERENCE = View("reference", model="reference")
AFTER_SHOTS = View("after_shots", prefix="shots")
AFTER_MEMBER_SHOTS = View("after_member_shots", prefix="member_shots")
LOWER = View("lower", transform=str.lower)


class MissingStatisticError(LookupError):
    """An attack reads a statistic that is not there: a backend does not give it, and the attack did not ask for it."""


class UnscorableError(ValueError):
    """An attack cannot score a text; the message is a clause that says why, and the way out."""


class TokenStats:
    """Statistics of the n scored tokens of one view, each an array of shape [n].

    Reading one that is not there raises `MissingStatisticError`; `has` says which are.

    Attributes:
        logprob: float32, ℓ_t = log p(x_t | x_<t), in nats.
        n_chars: how many leading characters of the text were scored: fewer than the text has where it was cut; None
            where nobody said.
        truncated: whether the text was cut to the model's length.
    """

    __slots__ = (
        *("_ends", "_frequency", "_gradient", "_greedy", "_mean", "_std", "_tokens", "_words"),
        *("logprob", "n_chars", "truncated"),
    )

    def __init__(
        self,
        logprob: FloatArray,
        *,
        greedy: BoolArray | None = None,
        mean: FloatArray | None = None,
        std: FloatArray | None = None,
        words: str | None = None,
        tokens: IntArray | None = None,
        frequency: FloatArray | None = None,
        gradient: FloatArray | None = None,
        n_chars: int | None = None,
        truncated: bool = False,
        ends: Callable[[], Sequence[int]] | None = None,
    ) -> None:
        """`ends` tells, when it is asked, the character of the text at which each scored token ends, [n]."""
        self.logprob, self.truncated, self._ends = logprob, truncated, ends
        self.n_chars = len(words) if words is not None and n_chars is None else n_chars
        self._greedy, self._mean, self._std, self._words, self._tokens = greedy, mean, std, words, tokens
        self._frequency, self._gradient = frequency, gradient

    @property
    def greedy(self) -> BoolArray:
        """Bool, whether x_t was the arg-max."""
        return self._there(self._greedy, "greedy")

    @property
    def mean(self) -> FloatArray:
        """float32, μ_t = Σ_v p(v) log p(v), in nats: the negative entropy of the next-token distribution."""
        return self._there(self._mean, "moments")

    @property
    def std(self) -> FloatArray:
        """float32, σ_t, the standard deviation of log p(v) under p, with a floor of 1e-3 (variance 1e-6)."""
        return self._there(self._std, "moments")

    @property
    def words(self) -> str:
        """The part of the text that was scored."""
        return self._there(self._words, "words")

    @property
    def tokens(self) -> IntArray:
        """int64, the ids of the scored tokens in the vocabulary of the view's model."""
        return self._there(self._tokens, "tokens")

    @property
    def frequency(self) -> FloatArray:
        """float32, the share that each scored token has of the tokens of other texts, add-one smoothed; above 0."""
        return self._there(self._frequency, "frequency")

    @property
    def gradient(self) -> FloatArray:
        """float32 [3, 3], norms of the gradient of the mean loss: of all parameters, the embedding, the head × L1, L2,
        L∞."""
        return self._there(self._gradient, "gradient")

    @property
    def ends(self) -> Sequence[int]:
        """The character of the text at which each scored token ends, [n], never falling."""
        return self._there(self._ends, "words")()

    @property
    def has(self) -> frozenset[Statistic]:
        """The statistics that are there."""
        given: dict[Statistic, object] = {
            "logprob": self.logprob,
            "greedy": self._greedy,
            "moments": None if self._mean is None else self._std,
            "words": self._words,
            "tokens": self._tokens,
            "frequency": self._frequency,
            "gradient": self._gradient,
        }
        return frozenset(name for name, value in given.items() if value is not None)

    def head(self, n_chars: int) -> TokenStats:
        """The statistics of the tokens that end within the first `n_chars` characters of the text.

        Raises:
            MissingStatisticError: nobody knows where the tokens end.
        """
        if self.n_chars is None or n_chars >= self.n_chars:
            return self
        n = int(np.searchsorted(np.asarray(self.ends), n_chars, side="right"))

        def first(array: Any) -> Any:
            return None if array is None else array[:n]

        return TokenStats(
            self.logprob[:n],
            greedy=first(self._greedy),
            mean=first(self._mean),
            std=first(self._std),
            words=None if self._words is None else self._words[:n_chars],
            tokens=first(self._tokens),
            frequency=first(self._frequency),
            n_chars=n_chars,
            truncated=True,
            ends=lambda: self.ends[:n],
        )

    def with_frequency(self, frequency: FloatArray) -> TokenStats:
        """The same, with how often each scored token, [n], occurs in other texts."""
        made = copy(self)
        made._frequency = frequency
        return made

    @staticmethod
    def _there(value: T | None, statistic: Statistic) -> T:
        if value is None:
            raise MissingStatisticError(statistic)
        return value

    def __len__(self) -> int:
        return len(self.logprob)

    def __repr__(self) -> str:
        mean = f"{float(self.logprob.mean()):.4f}" if len(self) else "nan"
        return f"TokenStats(tokens={len(self)}, mean_logprob={mean})"


@dataclass(frozen=True)
class Generated:
    """What a model made of a `Prompt`.

    Attributes:
        samples: its continuations.
        rest: how the text itself goes on.
    """

    samples: tuple[str, ...]
    rest: str
    n_chars: None = None
    truncated: bool = False

    def head(self, n_chars: int) -> Generated:
        """Itself: what is generated has no common part with what is scored."""
        return self

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        return f"Generated(samples={len(self)})"  # lands in samples_*.jsonl: never a text


@dataclass(frozen=True)
class Unscored:
    """Stands in for TokenStats where a view has none.

    Attributes:
        reason: one clause for people.
        whole_task: whether it holds for every text on every rank (a backend without token statistics, a missing
            reference model), so that the task reports nothing instead of NaN.
    """

    reason: str
    whole_task: bool = False
