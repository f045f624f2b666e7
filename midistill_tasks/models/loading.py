"""Models and tokenizers by name, in evaluation mode or to train on; what goes wrong is said in the recipe's words."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.downloads import remedy
from midistill_tasks.errors import InputError
from midistill_tasks.processes import processes


def load_teacher(
    name: str, *, dtype: str = "float32", revision: str | None = None, quantize: str | None = None
) -> PreTrainedModel:
    """The causal LM `name` in evaluation mode, frozen, on this process's device.

    Args:
        name: a hub id or a folder.
        dtype: of its weights, as torch calls it.
        revision: of the hub model.
        quantize: "8bit" or "4bit", through bitsandbytes.

    Raises:
        InputError: as `from_pretrained`.
    """
    kwargs: dict[str, Any] = {"dtype": getattr(torch, dtype), "revision": revision}
    if quantize:
        from transformers import BitsAndBytesConfig

        kwargs["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantize == "8bit", load_in_4bit=quantize == "4bit"
        )
    model = from_pretrained(AutoModelForCausalLM, name, "teacher.model", **kwargs)
    if not quantize:  # bitsandbytes has put it where it must stay
        model.to(processes().device)
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def from_pretrained(auto: Any, name: str | None, key: str, **kwargs: Any) -> Any:
    """``auto.from_pretrained(name)``; what goes wrong is said in terms of the recipe's `key`.

    Raises:
        InputError: if the model is gated, does not exist, or is not of that kind.
    """
    check_folder(str(name), key)
    try:
        return auto.from_pretrained(name, **kwargs)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{key}: '{name}' cannot be loaded as {auto.__name__}: its weights are a pickle that would execute code: "
            "take weights in the format safetensors"
        ) from error
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        if why := remedy(error, str(name)):
            raise InputError(f"{key}: {name} {why}") from error
        if isinstance(error, OSError) and not Path(str(name)).exists() and "/" not in str(name):
            raise InputError(
                f"{key}: '{name}' is no folder here (relative paths start at {Path.cwd()}), and of the hub it is not to"
                f" be had: {_first_sentence(error)}"
            ) from error
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{key}: '{name}' cannot be loaded as {auto.__name__}: {reason}") from error


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).split()).partition(". ")[0][:200].rstrip(".")


def check_folder(name: str, key: str) -> None:
    """Of a name that can only be a folder's: the hub would be asked for it, and a failed connection be blamed.

    Raises:
        InputError: there is none.
    """
    if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not Path(name).exists():
        raise InputError(f"{key}: there is no folder '{name}'; relative paths start at {Path.cwd()}")


def load_tokenizer(name: str, key: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """A tokenizer that can pad."""
    tokenizer = cast(PreTrainedTokenizerBase, from_pretrained(AutoTokenizer, name, key, revision=revision))
    if tokenizer.pad_token is None:
        # Only ever written where the attention mask is 0.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def check_same_tokenizer(
    teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase, texts: Sequence[str]
) -> None:
    """Compares the vocabularies token by token, then what both make of the texts.

    Raises:
        InputError: where they differ; a divergence between distributions over different tokens means nothing.
    """
    advice = "distillation needs one tokenizer: take a student of the teacher's family, or give student.config a dict"
    vocabularies = teacher.get_vocab(), student.get_vocab()
    sizes = [len(vocabulary) for vocabulary in vocabularies]
    differing = sorted(vocabularies[0].items() ^ vocabularies[1].items(), key=lambda pair: pair[1])
    if differing:
        number = differing[0][1]
        teacher_has, student_has = (
            next((token for token, at in vocabulary.items() if at == number), None) for vocabulary in vocabularies
        )
        raise InputError(
            f"the tokenizers of teacher ({sizes[0]} tokens) and student ({sizes[1]}) differ, first at token"
            f" {number}: {teacher_has!r} and {student_has!r}; {advice}"
        )
    encoded = (tokenizer(list(texts), verbose=False)["input_ids"] if texts else [] for tokenizer in (teacher, student))
    for text, by_teacher, by_student in zip(texts, *encoded, strict=True):
        if by_teacher != by_student:
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


def check_length(config: Any, rows: Iterable[Sequence[int]], role: str) -> None:
    """The model must have a position for each token of a text, or it fails, or goes on where nobody trained it.

    Raises:
        InputError: if a text is longer.
    """
    positions, longest = positions_of(config), max(map(len, rows), default=0)
    if positions is not None and longest > positions:
        raise InputError(
            f"data.max_length: {longest} tokens are kept of a text, but the {role} ({config.model_type}) has"
            f" {positions} positions: set data.max_length (documents.tokens in a study with documents) to {positions}"
            " or less"
        )


def positions_of(config: Any) -> int | None:
    """How many tokens a model can read at once; None where its config does not say."""
    keys = ("max_position_embeddings", "max_seq_len")
    return next((value for key in keys if isinstance(value := getattr(config, key, None), int)), None)


def config_from_dict(values: dict[str, Any], tokenizer: PreTrainedTokenizerBase, key: str) -> Any:
    """A config of ``values["model_type"]``, its vocabulary, first and last token the tokenizer's unless given.

    Raises:
        InputError: for an unknown model type, or values that its class refuses.
    """
    # Not pad_token_id: some embeddings never train that row, which is the row of another token in many tokenizers.
    of_tokenizer = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    try:
        return AutoConfig.for_model(**{"vocab_size": len(tokenizer), **of_tokenizer, **values})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{key}: {' '.join(str(error).split())[:300]}") from None
