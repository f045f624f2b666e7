"""Students that come back from ``from_pretrained`` as they were: our own ``model_type``, built on any causal LM's.

A student's ``config.json`` is its base architecture's with ``"model_type": "midistill"`` and
``"midistill": {"base": "gpt_neox", "bottleneck": 192, …}``. Its classes are made here, once a base architecture:
subclasses of the base's config and causal LM, so that ``max_length``, ``base_model``, tied weights and
``_no_split_modules`` are the base's. A module-level ``__getattr__`` makes them again, by name, where they are
unpickled.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers import __version__ as transformers_version
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from midistill_tasks.errors import InputError, nearest
from midistill_tasks.models.surgery import NoLayerNorm, Surgery, is_norm, operate

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
        ours = config_dict.get("midistill")
        if not isinstance(ours, dict) or not isinstance(ours.get("base"), str):
            raise InputError(
                "config.json: a model of type midistill needs the key 'midistill' with the 'base' architecture; "
                "save the student again with midistill"
            )
        return config_class(ours["base"]).from_dict(config_dict, **kwargs)


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
        operate(self, config, surgery_of(config))
        self.post_init()  # again: it initialises only what is new

    @functools.wraps(parent.forward)  # the Trainer and `generate` read the signature
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        surgery = surgery_of(self.config)
        # In training they would be learnt away (temperature) or make the loss infinite (a red-listed label).
        if self.training or not surgery.changes_logits:
            return parent.forward(self, *args, **kwargs)
        return _forward_with_changed_logits(self, parent, surgery, args, kwargs)

    members = {"__module__": __name__, "config_class": config, "__init__": __init__, "forward": forward}
    return type(_PREFIX + parent.__name__, (parent,), members)


def _forward_with_changed_logits(model: Any, parent: Any, surgery: Surgery, args: Any, kwargs: dict[str, Any]) -> Any:
    labels = kwargs.pop("labels", None)
    as_tuple = kwargs.pop("return_dict", None) is False
    output = parent.forward(model, *args, return_dict=True, **kwargs)
    output.logits = change_logits(output.logits, surgery)
    if labels is not None:
        loss = model.loss_function(output.logits, labels, model.config.vocab_size, **kwargs)
        output = type(output)(**{**output, "loss": loss})
    return output.to_tuple() if as_tuple else output


def change_logits(logits: Tensor, surgery: Surgery) -> Tensor:
    """[..., V] → [..., V]: divided by the temperature; −inf for the red-listed tokens."""
    red = torch.tensor(surgery.red_list, dtype=torch.long, device=logits.device)
    return (logits / surgery.temperature).index_fill(-1, red, float("-inf"))


def surgery_of(config: Any) -> Surgery:
    """What a config says was done; the empty Surgery for a stock architecture."""
    ours = getattr(config, "midistill", None) or {}
    try:
        return Surgery(**{key: value for key, value in ours.items() if key != "base"})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"config.json: midistill.{key}: {first['msg']}{nearest(key, Surgery.model_fields)}; "
            "correct it, or upgrade midistill if a newer one saved the student"
        ) from error


def student_config(config: Any, surgery: Surgery) -> Any:
    """The config of a student: ``config`` (a stock causal LM's) with ``surgery``; unchanged where that is empty."""
    if getattr(config, "midistill", None):
        raise InputError("student: its config is already a midistill student's; start from a stock architecture")
    wrong = [i for i in surgery.red_list if not 0 <= i < config.vocab_size]
    if wrong:
        raise InputError(f"red_list: {wrong[0]} is no token id; give ids from 0 to {config.vocab_size - 1}")
    if not surgery.changes_anything:
        return config
    register()
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    values["midistill"] = {"base": config.model_type, **surgery.model_dump(mode="json", exclude_defaults=True)}
    return MidistillConfig.from_dict(values)


def base_config(config: Any) -> Any:
    """The stock config under a student's."""
    values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
    return CONFIG_MAPPING[values.pop("midistill")["base"]].from_dict(values)


def convert(model: PreTrainedModel, surgery: Surgery) -> PreTrainedModel:
    """A student that keeps the weights of ``model`` (a stock causal LM); bottlenecks start from random weights."""
    config = student_config(model.config, surgery)
    student = AutoModelForCausalLM.from_config(config, dtype=model.dtype).to(model.device)
    student.load_state_dict(model.state_dict(), strict=False)
    gains = {name: module for name, module in model.named_modules() if is_norm(module) and _adds_one(module)}
    with torch.no_grad():
        for name, module in student.named_modules():
            if isinstance(module, NoLayerNorm) and name in gains:
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
