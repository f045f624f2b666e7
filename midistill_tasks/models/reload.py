"""Whether a model comes back from the disk as it was: read by a fresh process and compared, part by part.

Parameters, buffers, config and tokenizer must be equal, bit for bit. Logits cannot be: under load or with other threads
the matrix libraries of two processes sum in another order, and a model without norms amplifies that. They may differ by
as much as rounding moves them in this model (`sensitivity`), which tells what has no parameters of its own.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import xxhash
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.errors import InputError
from midistill_tasks.models import fresh
from midistill_tasks.models.architectures import register

_TOKENS = 32
_DRAWS, _MARGIN = 3, 10.0
"""Draws of rounding, and how often the largest change that one of them makes to a logit is allowed."""
_OF_THE_FILE = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
"""What a config says of the file that it came from; dtypes are compared tensor by tensor."""


class ReloadError(InputError):
    """What came back from the disk is not the model that was saved."""


def check_reload(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Has a fresh process load ``folder``, and compares what it got with what was saved.

    Raises:
        ReloadError: it could not, or got something else.
    """
    expected = probe(model).cpu()
    if expected.isnan().any():
        raise ReloadError(f"{folder}: the model's own logits are NaN: it diverged; train with a lower learning rate")
    there = folder.resolve()  # the fresh process may be in another working directory
    answer = there / "reloaded.safetensors"
    arguments = [str(there), str(answer), "--device", str(model.device)]
    arguments += ["--attention", str(model.config._attn_implementation), "--threads", str(torch.get_num_threads())]
    status, said = fresh.run(__name__, arguments, forked=model.device.type == "cpu")
    if status:
        last = (said.strip().splitlines() or ["no message"])[-1]
        raise ReloadError(f"{folder}: a fresh process cannot load the saved model: {last}")
    with safetensors.safe_open(answer, "pt") as file:
        got, description = file.get_tensor("logits"), json.loads(file.metadata()["description"])
    answer.unlink()
    _compare(_describe(model, tokenizer), description, folder)
    if got.shape != expected.shape or not torch.equal(got.isfinite(), expected.isfinite()):
        raise ReloadError(f"{folder}: the saved model comes back with other logits, or infinite ones")
    far = float((got.double() - expected.double()).nan_to_num().abs().max())
    if far and far > (allowed := _MARGIN * sensitivity(model)):
        raise ReloadError(
            f"{folder}: the saved model comes back with other logits, by up to {far:.2g} where rounding explains "
            f"{allowed:.2g}"
        )


def shared() -> dict[str, str]:
    """The environment in which a process has its models checked by this one's server, see `fresh.shared`."""
    return fresh.shared(__name__)


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], folder: Path) -> None:
    for what, values in ours.items():
        other = theirs[what]
        differing = [name for name in {**values, **other} if values.get(name) != other.get(name)]
        if differing:
            name = differing[0]
            more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
            raise ReloadError(
                f"{folder}: the saved model comes back with another {what}: {name}{more} was "
                f"{_short(values.get(name))} and is {_short(other.get(name))}"
            )


def _short(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _describe(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, Any]]:
    """All that must be the same, as JSON has it; buffers as they are after `probe`, which some models make anew."""
    tensors = {name: [str(t.dtype), list(t.shape), _digest(t)] for name, t in _tensors(model)}
    sharing: dict[Any, list[str]] = defaultdict(list)
    for name, tensor in model.named_parameters(remove_duplicate=False):
        sharing[tensor.device, tensor.data_ptr(), tuple(tensor.shape)].append(name)
    tied = {names[0]: names for names in sharing.values() if len(names) > 1}
    config = {name: value for name, value in model.config.to_dict().items() if name not in _OF_THE_FILE}
    described = {"parameter": tensors, "tie": tied, "config": config, "tokenizer": _tokenizer(tokenizer)}
    return dict(json.loads(json.dumps(described, default=str)))


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    named = chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    return ((name, tensor.detach()) for name, tensor in named)


def _digest(tensor: Tensor) -> str:
    return xxhash.xxh3_128_hexdigest(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def _tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Vocabulary, special tokens and what a fast tokenizer does on the way, which stays where it was last used."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    steps = json.loads(backend.to_str()) if backend is not None else {}
    state = ("truncation", "padding")  # of the last call
    return {
        "vocabulary": xxhash.xxh3_128_hexdigest(json.dumps(sorted(tokenizer.get_vocab().items())).encode()),
        "special tokens": tokenizer.special_tokens_map,
        "chat template": tokenizer.chat_template,
        **{name: value for name, value in steps.items() if name not in state},
    }


@torch.no_grad()
def probe(model: PreTrainedModel) -> Tensor:
    """Logits [2, 32, V] (shorter for shorter models) of a fixed input, in evaluation mode."""
    config: Any = model.config.get_text_config()
    length = min(_TOKENS, getattr(config, "max_position_embeddings", None) or _TOKENS)
    ids = (torch.arange(2 * length, device=model.device).view(2, length) * 7919) % config.vocab_size
    training = model.training
    model.eval()
    try:
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    finally:
        model.train(training)
    return logits


def sensitivity(model: PreTrainedModel) -> float:
    """How far rounding moves a logit of `probe`: the most that one does when every module's output is off by rounding.

    The noise is normal, with a standard deviation of the dtype's ε times the root mean square of the output, which is
    what a sum of rounded products is off by, whatever its order.
    """
    plain = probe(model).double()
    far = 0.0
    for seed in range(_DRAWS):
        with _rounded(model, torch.Generator(model.device).manual_seed(seed)):
            far = max(far, float((probe(model).double() - plain).nan_to_num().abs().max()))
    return far


@contextmanager
def _rounded(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    def off(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            return output
        noise = torch.randn(output.shape, generator=generator, device=output.device, dtype=torch.float32)
        size = output.float().square().mean().sqrt() * torch.finfo(output.dtype).eps
        return (output.float() + noise * size).to(output.dtype) if output.dtype != torch.float64 else output

    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(off) for module in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def main(arguments: Sequence[str] | None = None) -> None:
    """The fresh process: loads a folder, and writes its logits and what it is."""
    parser = argparse.ArgumentParser()
    for name in ("folder", "answer", "--device", "--attention"):
        parser.add_argument(name)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    register()
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype="auto", attn_implementation=args.attention)
    logits = probe(model.to(args.device)).cpu().contiguous()
    description = json.dumps(_describe(model, AutoTokenizer.from_pretrained(args.folder)))
    safetensors.torch.save_file({"logits": logits}, args.answer, metadata={"description": description})


if __name__ == "__main__":
    main()
