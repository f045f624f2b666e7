"""A model with layers 0, n, 2n, … of another: its config, whatever that says of single layers, and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from midistill_tasks.errors import InputError
from midistill_tasks.models.surgery import blocks_of, skeleton

_LAYERS = "num_hidden_layers"
_NUMBERS = ("mlp_only_layers", "cross_attention_layers", "hybrid_layer_ids", "full_attn_idxs", "moe_layers")
"""Keys that list layers by their numbers; other lists as long as the model have an entry a layer."""
_LEADING = ("first_k_dense_replace", "num_dense_layers", "max_window_layers")
"""Keys that say how many of the first layers are otherwise than those that follow."""
_PLACE = ("layer_idx", "layer_id", "layer_index", "layer_number", "training")
"""What a module knows of its place, which thinning changes."""


def thinned_config(config: Any, step: int) -> Any:
    """The config of the model with every `step`-th layer.

    Raises:
        InputError: a layer that is kept would be built as another kind (dense or experts, sliding or full attention,
            …), because the config has it follow from the layer's number.
    """
    layers: int = config.num_hidden_layers
    kept = range(0, layers, step)
    values = {key: _thinned_value(key, value, layers, step) for key, value in config.to_dict().items()}
    if "attention_types" in values:  # GPT-Neo's short form of its list
        values["attention_types"] = [[values["attention_layers"], 1]]
    values[config.attribute_map.get(_LAYERS, _LAYERS)] = len(kept)
    values.pop("model_type", None)
    try:
        thinned = type(config)(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"student.every_nth_layer: {type(config).__name__} allows no {len(kept)} of its {layers} layers ({error}): "
            "take another number, or give student.checkpoint"
        ) from error
    _check_kinds(skeleton(config), skeleton(thinned), config, thinned, step)
    return thinned


def _thinned_value(key: str, value: Any, layers: int, step: int) -> Any:
    if key in _LEADING and isinstance(value, int) and value < layers:
        return len(range(0, value, step))
    if not isinstance(value, list) or key.endswith("_token_id"):  # Llama 3 has three tokens that end a text
        return value
    if key in _NUMBERS:
        return [number // step for number in value if number % step == 0]
    return value[::step] if len(value) == layers and layers > 1 else value


def _check_kinds(whole: PreTrainedModel, thin: PreTrainedModel, config: Any, thinned: Any, step: int) -> None:
    _, before = blocks_of(whole, config)
    _, after = blocks_of(thin, thinned)
    if not before or len(after) != thinned.num_hidden_layers:
        raise InputError(
            f"student.every_nth_layer: {type(whole).__name__} has no list of its layers to take some from: "
            "give student.config or student.checkpoint"
        )
    for number, block in enumerate(after):
        ours, theirs = _kind(block), _kind(before[number * step])
        differing = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
        if differing:
            key = differing[0]
            raise InputError(
                f"student.every_nth_layer: layer {number * step} of the teacher would be another kind of layer as the "
                f"student's layer {number} ({key}: {theirs.get(key)} there, {ours.get(key)} here), which "
                f"{type(config).__name__} has follow from its number: take another number, or give student.checkpoint"
            )


def _kind(block: nn.Module) -> Mapping[str, Any]:
    """Classes, shapes and settings of a block's modules, by name."""
    kind: dict[str, Any] = {}
    for name, module in block.named_modules():
        kind[name] = type(module).__name__
        settings = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in _PLACE}
        kind |= {f"{name}.{key}": value for key, value in settings.items() if _is_plain(value)}
    return kind | {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def thinned(teacher: PreTrainedModel, config: Any, step: int) -> PreTrainedModel:
    """A model of `config` in float32: layer j has the weights of layer step·j of the teacher, all else is copied."""
    student: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    blocks, _ = blocks_of(teacher, teacher.config)
    weights = {}
    for name, tensor in teacher.state_dict().items():
        if name.startswith(blocks + "."):
            number, rest = name[len(blocks) + 1 :].split(".", 1)
            if int(number) % step:
                continue
            name = f"{blocks}.{int(number) // step}.{rest}"
        weights[name] = tensor.float()
    student.load_state_dict(weights)
    return student
