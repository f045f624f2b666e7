"""Students that come back from ``from_pretrained`` as they were: our own ``model_type``, built on any causal LM's.

A student's ``config.json`` is its base architecture's with ``"model_type": "midistill"`` and
``"midistill": {"base": "gpt_neox", "bottleneck": 192, …}``. Its classes are made here, once a base architecture:
subclasses of the base's config and causal LM, so that ``max_length``, ``base_model``, tied weights and
``_no_split_modules`` are the base's. A module-level ``__getattr__`` makes them again, by name, where they are
unpickled.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.methods import BESIDE, INTERVENTIONS, Intervention, read_interventions
from midistill_tasks.models.surgery import is_norm

MODEL_TYPE = "midistill"
_PREFIX = "Midistill"


def register() -> None:
    """Lets ``AutoConfig`` and ``AutoModelForCausalLM`` load students; calling it again changes nothing."""
    AutoConfig.register(MODEL_TYPE, MidistillConfig, exist_ok=True)
    # The harness takes a model type outside this list for a mistake, and warns.
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[MODEL_TYPE] = "MidistillForCausalLM"


class MidistillConfig(PreTrainedConfig):  # type: ignore[misc]
    """What the ``model_type`` is registered with: ``from_dict`` answers with the config class of the base."""

    model_type = MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """A config of the base's subclass; InputError where the key ``midistill`` is missing or wrong."""
        key = config_dict.get("midistill")
        if not isinstance(key, dict) or not isinstance(key.get("base"), str):
            raise InputError(
                "config.json: a model of type midistill needs the key 'midistill' with the 'base' architecture; "
                "save the student again with midistill"
            )
        return config_class(key["base"]).from_dict(config_dict, **kwargs)


@functools.cache
def config_class(base: str) -> Any:
    """The config class of students of the architecture ``base``, such as "gpt_neox"."""
    if base not in CONFIG_MAPPING or CONFIG_MAPPING[base] not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(
            f"midistill.base: '{base}' is no causal LM of transformers {transformers_version}"
            f"{nearest(base, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)}; upgrade transformers or correct it"
        )
    parent = CONFIG_MAPPING[base]
    if parent.model_type != base:  # an alias: one class an architecture
        return config_class(parent.model_type)
    made = type(_PREFIX + parent.__name__, (parent,), {"__module__": __name__, "model_type": MODEL_TYPE})
    AutoModelForCausalLM.register(made, _model_class(base, made))
    return made


def _model_class(base: str, config: Any) -> Any:
    parent = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[base]]

    def __init__(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        parent.__init__(self, config, *args, **kwargs)
        for intervention in interventions_of(config):
            intervention.apply(self, config)
        self.post_init()  # again: it initialises only what is new

    @functools.wraps(parent.forward)  # the Trainer and `generate` read the signature
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # In training they would be learnt away (temperature) or make the loss infinite (a red-listed label).
        changes = [] if self.training else [i for i in interventions_of(self.config) if i.changes_logits]
        if not changes:
            return parent.forward(self, *args, **kwargs)
        return _forward_with_changed_logits(self, parent, changes, args, kwargs)

    members = {"__module__": __name__, "config_class": config, "__init__": __init__, "forward": forward}
    return type(_PREFIX + parent.__name__, (parent,), members)


def _forward_with_changed_logits(
    model: Any, parent: Any, changes: Sequence[Intervention], args: Any, kwargs: dict[str, Any]
) -> Any:
    labels = kwargs.pop("labels", None)
    as_tuple = kwargs.pop("return_dict", None) is False
    output = parent.forward(model, *args, return_dict=True, **kwargs)
    for change in changes:
        output.logits = change.logits(output.logits)
    if labels is not None:
        loss = model.loss_function(output.logits, labels, model.config.vocab_size, **kwargs)
        output = type(output)(**{**output, "loss": loss})
    return output.to_tuple() if as_tuple else output


def interventions_of(config: Any) -> list[Intervention]:
    """Those that a config names; none for a stock architecture.

    Raises:
        InputError: the config's key ``midistill`` names one that nobody brings, or gives it a wrong value.
    """
    given = {key: value for key, value in (getattr(config, "midistill", None) or {}).items() if key != "base"}
    remedy = "correct it, or upgrade midistill (or install the package) that saved the student"
    unknown = [key for key in given if key not in BESIDE and key not in INTERVENTIONS]
    if unknown:
        hint = nearest(unknown[0], [*INTERVENTIONS, *BESIDE])
        raise InputError(f"config.json: midistill.{unknown[0]}: there is no such intervention{hint}; {remedy}")
    try:
        return read_interventions(given)
    except InputError as error:
        raise InputError(f"config.json: midistill.{error}; {remedy}") from error


def student_config(config: Any, interventions: Sequence[Intervention]) -> Any:
    """The config of a student: ``config`` (a stock causal LM's) with what the model carries; unchanged without."""
    if getattr(config, "midistill", None):
        raise InputError("student: its config is already a midistill student's; start from a stock architecture")
    carried = [intervention for intervention in interventions if intervention.changes_model]
    if not carried:
        return config
    register()
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    values["midistill"] = {"base": config.model_type}
    for intervention in carried:
        values["midistill"] |= intervention.keys()
    return MidistillConfig.from_dict(values)


def base_config(config: Any) -> Any:
    """The stock config under a student's."""
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    return CONFIG_MAPPING[values.pop("midistill")["base"]].from_dict(values)


def convert(model: PreTrainedModel, interventions: Sequence[Intervention]) -> PreTrainedModel:
    """A student that keeps the weights of ``model`` (a stock causal LM); new modules start from random weights."""
    config = student_config(model.config, interventions)
    student = AutoModelForCausalLM.from_config(config, dtype=model.dtype).to(model.device)
    student.load_state_dict(model.state_dict(), strict=False)
    norms = {name: module for name, module in model.named_modules() if is_norm(module) and _adds_one(module)}
    with torch.no_grad():
        for name, module in student.named_modules():
            if name in norms and type(module) is not type(norms[name]):  # in its place, and with a plain gain
                module.weight.add_(1)
    return student


def _adds_one(norm: Any) -> bool:
    """Whether a norm multiplies by 1 + weight, as Gemma's do; seen from what it makes of a vector of ones."""
    if getattr(norm, "bias", None) is not None or getattr(norm, "weight", None) is None:
        return False
    gain = norm(torch.ones_like(norm.weight)).float()
    weight = norm.weight.float()
    return bool((gain - weight - 1).abs().max() < (gain - weight).abs().max())


def __getattr__(name: str) -> Any:
    for mapping, of_base in ((MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, _named_model_class), (_config_names(), config_class)):
        bases = [base for base, stock in mapping.items() if name == _PREFIX + stock and base != MODEL_TYPE]
        if bases:
            return of_base(bases[0])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _named_model_class(base: str) -> Any:
    return MODEL_FOR_CAUSAL_LM_MAPPING[config_class(base)]


def _config_names() -> dict[str, str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    names: dict[str, str] = CONFIG_MAPPING_NAMES
    return names
