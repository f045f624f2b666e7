"""What a recipe names by a word and other packages may add to: divergences and interventions.

Their modules are in `distill.loss` and `distill.interventions`. What all of them share stands here, below recipes,
models and distillation, because each of these reads it: the recipe for its keys, the model for its ``config.json``.
Nothing here needs torch, and neither must a module of a divergence or an intervention until it acts: the keys of a
recipe are known before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from midistill_tasks.errors import InputError
from midistill_tasks.options import Strict
from midistill_tasks.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Divergence = Callable[..., "tuple[Tensor, Tensor]"]
"""p, log p, q, log q, all [n, m], and options by name → value [n], gradient [n, m]: see `distill.loss.divergences`."""

DIVERGENCES: Registry[Divergence] = Registry(
    "divergence",
    "midistill.divergences",
    dict.fromkeys(("forward_kl", "reverse_kl", "jsd", "skew_kl"), "midistill_tasks.distill.loss.divergences"),
)


def divergence(name: str) -> Callable[[Divergence], Divergence]:
    """Registers a function as a divergence; its keyword-only options become keys of the recipe's ``loss``."""
    return lambda function: DIVERGENCES.register(name, function, function.__module__)


class Intervention(Strict):
    """A change of a student, or of the texts it is trained on. A subclass overrides what it changes:

        @intervention("dropout", "after each FFN, in training", control="shrink")
        class Dropout(Intervention):
            p: float = Field(gt=0, lt=1)
            advice = "a smaller p disturbs less"

            def apply(self, model, config): …

    A recipe then says ``interventions: {dropout: 0.1}`` or ``{dropout: {p: 0.1}}``, with several fields the latter,
    without fields ``{dropout: true}``; so does the student's ``config.json`` where the model is changed.
    """

    key: ClassVar[str]
    """The key of recipe and ``config.json``; set by `intervention`, like the next two."""
    help: ClassVar[str]
    control: ClassVar[str | None] = None
    """The intervention beside which this one is to be read; a student has one of them."""
    advice: ClassVar[str] = ""
    """Why a run with it may blow up, said by the guard that stops it."""
    advice_at_start: ClassVar[str] = ""
    """The same where the student's outputs are not finite before the first step."""

    def keep(self, members: Sequence[str], seed: int) -> list[int]:
        """Positions of the members to train on, ascending."""
        return list(range(len(members)))

    def with_tokens(self, tokenizer: PreTrainedTokenizerBase) -> Intervention:
        """The same, with token ids in place of words."""
        return self

    def resize(self, config: Any) -> Any:
        """The stock config to train instead of the stock `config`; itself where its sizes stay."""
        return config

    def apply(self, model: PreTrainedModel, config: Any) -> None:
        """Changes a new model's modules in place.

        It is called before weights are loaded: a module that is to keep the teacher's must keep its name.

        Raises:
            InputError: the architecture has nothing that it could change.
        """

    def logits(self, x: Tensor) -> Tensor:
        """What the model answers in place of its logits [..., V], except in training."""
        return x

    def fold(self, model: nn.Module, config: Any, state: dict[str, Tensor]) -> None:
        """Turns the stock `config` and the `state` of the student `model` into those of a stock model like it.

        Raises:
            InputError: there is no such stock model.
        """
        raise InputError(f"{type(model).__name__}: '{self.key}' does not fold into a stock architecture")

    @property
    def changes_logits(self) -> bool:
        """Whether it acts behind the head."""
        return type(self).logits is not Intervention.logits

    @property
    def changes_model(self) -> bool:
        """Whether the model carries it, and says so in its ``config.json``."""
        return self.changes_logits or type(self).apply is not Intervention.apply

    @classmethod
    def fields(cls) -> dict[str, FieldInfo]:
        """Those that stand under its key."""
        return {name: field for name, field in cls.model_fields.items() if name not in BESIDE}

    @classmethod
    def read(cls, value: Any, beside: Mapping[str, Any]) -> Intervention:
        """From what stands under its key, and beside it.

        Raises:
            InputError: where that is wrong; the message begins with the key.
        """
        given = {name: beside[name] for name in BESIDE if name in cls.model_fields and name in beside}
        names = list(cls.fields())
        if isinstance(value, Strict):
            given |= value.model_dump()
        elif isinstance(value, Mapping):
            given |= value
        elif len(names) == 1:
            given[names[0]] = value
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise InputError(f"{cls.key}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error

    def keys(self) -> dict[str, Any]:
        """What stands under its key and beside it, as JSON; what `read` reads."""
        values = self.model_dump(mode="json")
        fields = {name: values[name] for name in type(self).fields()}
        value = True if not fields else next(iter(fields.values())) if len(fields) == 1 else fields
        beside = {name: values[name] for name in BESIDE if values.get(name)}
        return {self.key: value, **beside}


class Choosing(Intervention):
    """Chooses the texts by what an attack on the teacher found; a student has one of these."""

    selection: str = Field(description="the folder that `midistill select` wrote")


class Foldable(Intervention):
    """Has a variant that `midistill export --plain` can fold into the stock architecture."""

    foldable: bool = Field(False, description="that variant")


BESIDE = ("selection", "foldable")
"""Fields that several interventions share, and that therefore stand beside them, once."""

INTERVENTIONS: Registry[type[Intervention]] = Registry(
    "intervention",
    "midistill.interventions",
    {
        "non_vulnerable": "midistill_tasks.distill.interventions.texts",
        "vulnerable_plus": "midistill_tasks.distill.interventions.texts",
        "random_drop": "midistill_tasks.distill.interventions.texts",
        "random_keep": "midistill_tasks.distill.interventions.texts",
        "bottleneck": "midistill_tasks.distill.interventions.bottleneck",
        "same_params": "midistill_tasks.distill.interventions.same_size",
        "nonorm": "midistill_tasks.distill.interventions.nonorm",
        "ffn_dropout": "midistill_tasks.distill.interventions.dropout",
        "red_list": "midistill_tasks.distill.interventions.logits",
        "temperature": "midistill_tasks.distill.interventions.logits",
    },
)

Kind = TypeVar("Kind", bound="type[Intervention]")


def intervention(name: str, help: str, control: str | None = None) -> Callable[[Kind], Kind]:
    """Registers a class under the key `name`; `help` is its line in `midistill recipes`.

    Raises:
        ValueError: the name stands for something else there.
    """
    if name in (*BESIDE, "all", "base"):
        raise ValueError(f"an intervention cannot be called '{name}', which is a key of its own: take another name")

    def register(kind: Kind) -> Kind:
        kind.key, kind.help, kind.control = name, help, control
        INTERVENTIONS.register(name, kind, kind.__module__)
        return kind

    return register


def is_chosen(value: Any) -> bool:
    """Whether the value of an intervention's key chooses it; 0 does."""
    return value is not None and value is not False


def read_interventions(given: Mapping[str, Any]) -> list[Intervention]:
    """The interventions among the keys of a recipe's section or of a ``config.json``.

    They come in the order of their names, in which they act, whoever asks.

    Raises:
        InputError: for a value that its intervention refuses; the message begins with its key.
    """
    chosen = sorted(name for name, value in given.items() if is_chosen(value) and name in INTERVENTIONS)
    return [INTERVENTIONS[name].read(given[name], given) for name in chosen]
