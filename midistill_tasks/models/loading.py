"""Makes the teacher and the student that a recipe asks for, and checks that they speak of the same tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import convert, student_config
from midistill_tasks.models.surgery import Surgery, n_parameters, same_params
from midistill_tasks.processes import processes
from midistill_tasks.recipes.schema import Interventions, Recipe, Student, Teacher


def load_teacher(teacher: Teacher) -> PreTrainedModel:
    """The teacher in evaluation mode, frozen, on this process's device."""
    kwargs: dict[str, Any] = {"dtype": getattr(torch, teacher.dtype), "revision": teacher.revision}
    if teacher.quantize:
        from transformers import BitsAndBytesConfig

        kwargs["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=teacher.quantize == "8bit", load_in_4bit=teacher.quantize == "4bit"
        )
    model = from_pretrained(AutoModelForCausalLM, teacher.model, "teacher.model", **kwargs)
    if not teacher.quantize:  # bitsandbytes has put it where it must stay
        model.to(processes().device)
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def from_pretrained(auto: Any, name: str | None, key: str, **kwargs: Any) -> Any:
    """``auto.from_pretrained(name)``; what goes wrong is said in terms of the recipe's `key`.

    Raises:
        InputError: if the model is gated, does not exist, or is not of that kind.
    """
    from huggingface_hub.errors import GatedRepoError

    try:
        return auto.from_pretrained(name, **kwargs)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        causes = (error, error.__cause__, error.__context__)
        if any(isinstance(cause, GatedRepoError) for cause in causes) or "gated repo" in str(error):
            raise InputError(
                f"{key}: {name} is gated: accept its terms at https://huggingface.co/{name}, then run `hf auth login`"
            ) from error
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{key}: '{name}' cannot be loaded as {auto.__name__}: {reason}") from error


def load_tokenizer(name: str, key: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer that can pad."""
    tokenizer = cast(PreTrainedTokenizerBase, from_pretrained(AutoTokenizer, name, key, revision=revision))
    if tokenizer.pad_token is None:
        # Only ever written where the attention mask is 0.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def student_tokenizer(student: Student) -> PreTrainedTokenizerBase | None:
    """The tokenizer that comes with the student; None where it is made from a bare config."""
    name = student.checkpoint or (student.config if isinstance(student.config, str) else None)
    if name is None or (Path(name).is_dir() and not (Path(name) / "tokenizer_config.json").is_file()):
        return None
    return load_tokenizer(name, "student.checkpoint" if student.checkpoint else "student.config")


def check_same_tokenizer(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, texts: Sequence[str]
) -> None:
    """Compares the vocabularies token by token, then what both make of the texts.

    Raises:
        InputError: where they differ; a divergence between distributions over different tokens means nothing.
    """
    advice = "distillation needs one tokenizer: take a student of the teacher's family, or give student.config a dict"
    ours, theirs = teacher.get_vocab(), student.get_vocab()
    if ours != theirs:
        differing = sorted(ours.items() ^ theirs.items(), key=lambda pair: pair[1])
        number = differing[0][1]
        teacher_has, student_has = (
            next((token for token, at in vocabulary.items() if at == number), None) for vocabulary in (ours, theirs)
        )
        raise InputError(
            f"the tokenizers of teacher ({len(ours)} tokens) and student ({len(theirs)}) differ, first at token"
            f" {number}: {teacher_has!r} and {student_has!r}; {advice}"
        )
    encoded = (tokenizer(list(texts), verbose=False)["input_ids"] if texts else [] for tokenizer in (teacher, student))
    for text, one, other in zip(texts, *encoded, strict=True):
        if one != other:
            raise InputError(
                f"the tokenizers of teacher and student have one vocabulary but split '{text[:40]}…' differently;"
                f" {advice}"
            )


def check_vocabulary(config: Any, tokenizer: PreTrainedTokenizerBase, role: str) -> None:
    """The model must have a row for each token; more rows are padding.

    Raises:
        InputError: if it has fewer.
    """
    if config.vocab_size < len(tokenizer):
        raise InputError(
            f"{role}: its vocabulary has {config.vocab_size} rows, but the tokenizer {len(tokenizer)} tokens:"
            " give a model of this tokenizer"
        )


def make_student(recipe: Recipe, teacher: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The student with its surgery, in float32 and ready to train; its random weights follow ``recipe.seed``."""
    torch.manual_seed(recipe.seed)
    surgery = surgery_of(recipe.interventions, tokenizer)
    config = _stock_config(recipe, teacher, tokenizer)
    check_vocabulary(config, tokenizer, "student")
    if recipe.interventions.same_params:
        if not recipe.student.reinitialise:
            raise InputError(
                "interventions.same_params changes the width of the student's layers, so none can be copied into "
                "them: set student.reinitialise: true, or leave out this control"
            )
        wanted = Surgery(bottleneck=recipe.interventions.same_params)
        config = same_params(config, n_parameters(student_config(config, wanted)))
    if recipe.student.reinitialise:
        model = AutoModelForCausalLM.from_config(student_config(config, surgery), dtype=torch.float32)
    else:
        model = convert(_with_weights(recipe, teacher, config), surgery)
    return _with_lora(model, recipe.student) if recipe.student.lora else model


def surgery_of(interventions: Interventions, tokenizer: PreTrainedTokenizerBase) -> Surgery:
    """The part of the interventions that changes the model itself."""
    return Surgery(
        nonorm=interventions.nonorm,
        bottleneck=interventions.bottleneck,
        foldable=interventions.foldable,
        red_list=tuple(_token_id(token, tokenizer) for token in interventions.red_list or ()),
        temperature=interventions.temperature or 1.0,
    )


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


def _stock_config(recipe: Recipe, teacher: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase) -> Any:
    student = recipe.student
    if student.every_nth_layer is not None:
        assert teacher is not None, "checked by Recipe"  # noqa: S101
        return _thinned_config(teacher.config, student.every_nth_layer)
    if isinstance(student.config, dict):
        return config_from_dict(student.config, len(tokenizer), "student.config")
    key = "student.checkpoint" if student.checkpoint else "student.config"
    return from_pretrained(AutoConfig, student.checkpoint or student.config, key)


def config_from_dict(values: dict[str, Any], vocab_size: int, key: str) -> Any:
    """A config of ``values["model_type"]``, its vocabulary the tokenizer's unless given.

    Raises:
        InputError: for an unknown model type, or values that its class refuses.
    """
    try:
        return AutoConfig.for_model(**{"vocab_size": vocab_size, **values})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{key}: {' '.join(str(error).split())[:300]}") from None


def _thinned_config(config: Any, step: int) -> Any:
    layers = config.num_hidden_layers
    kept = range(0, layers, step)
    values = config.to_dict()
    for name, value in values.items():
        if isinstance(value, list) and len(value) == layers:  # one entry a layer, such as layer_types
            values[name] = [value[number] for number in kept]
    thinned = type(config).from_dict(values)
    thinned.num_hidden_layers = len(kept)
    return thinned


def _with_weights(recipe: Recipe, teacher: PreTrainedModel | None, config: Any) -> PreTrainedModel:
    if recipe.student.checkpoint:
        kwargs = {"dtype": torch.float32, "config": config}
        model = from_pretrained(AutoModelForCausalLM, recipe.student.checkpoint, "student.checkpoint", **kwargs)
        return cast(PreTrainedModel, model)
    assert teacher is not None, "checked by Recipe"  # noqa: S101
    assert recipe.student.every_nth_layer is not None, "checked by Recipe"  # noqa: S101
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _copy_thinned(teacher, model, recipe.student.every_nth_layer)
    return model


def _copy_thinned(teacher: PreTrainedModel, student: PreTrainedModel, step: int) -> None:
    """Layer j of the student gets layer step·j of the teacher; all else is copied as it is."""
    layers = teacher.config.num_hidden_layers
    blocks = next(
        name
        for name, module in teacher.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == layers
    )
    weights = {}
    for name, tensor in teacher.state_dict().items():
        if name.startswith(blocks + "."):
            number, rest = name[len(blocks) + 1 :].split(".", 1)
            if int(number) % step:
                continue
            name = f"{blocks}.{int(number) // step}.{rest}"
        weights[name] = tensor.float()
    student.load_state_dict(weights)


def _with_lora(model: PreTrainedModel, student: Student) -> Any:
    assert student.lora is not None  # noqa: S101
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise InputError("student.lora needs the package peft: python -m pip install peft") from None
    lora = student.lora
    return get_peft_model(
        model,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
