"""Writes a student so that it comes back as it was, or not at all: whole, read again by a fresh process, compared."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.errors import InputError
from midistill_tasks.files import writing
from midistill_tasks.models.architectures import register

UNFINISHED = ".unfinished-model"
"""Folder inside the student's, until everything in it has been written and compared."""

MOVING = ".moving-model"
"""The same folder afterwards, while its files move up: where a killed save left it, they may be replaced."""

_CONFIG = "config.json"  # moved last: without it nothing loads the folder
_LAUNCHER = ("ACCELERATE_", "FSDP_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_")
_TOKENS = 32


class ReloadError(InputError):
    """What came back from the disk is not the model that was saved."""


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike[str]) -> None:
    """Writes ``model`` and ``tokenizer`` into ``folder``, whose other files stay; atomic, and compared.

    All is first written to a folder inside, loaded by a fresh process, which must give the same logits bit for bit,
    and then moved up, ``config.json`` last.

    Raises:
        InputError: the folder holds a model or a file of one already, or the disk is full; nothing there has changed.
        ReloadError: the fresh process got other logits, or failed; what was written stays in ``.unfinished-model``.
    """
    folder = Path(folder)
    unfinished, moving = folder / UNFINISHED, folder / MOVING
    if (folder / _CONFIG).exists():
        raise InputError(f"{folder}: already holds a model ({_CONFIG}); give another folder")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give the name of a folder")
    with writing(f"the model in {folder}", "; nothing else there has changed"), ExitStack() as undo:
        undo.callback(shutil.rmtree, unfinished, ignore_errors=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        undo.pop_all()
    names = sorted((p.name for p in unfinished.iterdir()), key=lambda name: name == _CONFIG)
    taken = [name for name in names if (folder / name).exists()]
    if taken and not moving.exists():
        shutil.rmtree(unfinished)
        raise InputError(f"{folder}: already holds {taken[0]}, which the model would overwrite; give another folder")
    check_reload(model, unfinished)
    with writing(f"the model in {folder}"):
        shutil.rmtree(moving, ignore_errors=True)
        unfinished.rename(moving)
        for name in names:
            os.replace(moving / name, folder / name)
        moving.rmdir()


def check_reload(model: PreTrainedModel, folder: Path) -> None:
    """Raises ReloadError unless a fresh process that loads ``folder`` computes the logits of ``model`` bit for bit."""
    expected = probe(model)
    if expected.isnan().any():
        raise ReloadError(f"{folder}: the model's own logits are NaN: it diverged; train with a lower learning rate")
    answer = folder / "reloaded_logits"
    command = [sys.executable, "-m", __name__, str(folder), str(answer), "--device", str(model.device)]
    command += ["--attention", str(model.config._attn_implementation), "--threads", str(torch.get_num_threads())]
    run = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=False)  # noqa: S603
    if run.returncode:
        last = (run.stderr.strip().splitlines() or ["no message"])[-1]
        raise ReloadError(f"{folder}: a fresh process cannot load the saved model: {last}")
    got = safetensors.torch.load_file(answer)["logits"]
    answer.unlink()
    expected = expected.cpu()
    if not torch.equal(got, expected):
        same = got.shape == expected.shape
        far = f"by up to {(got.float() - expected.float()).nan_to_num().abs().max():.2g}" if same else "in shape"
        raise ReloadError(f"{folder}: the saved model comes back with other logits, {far}")


def _environment() -> dict[str, str]:
    """Ours, without what a launcher sets for its own processes, and with our package on the path."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER)}
    paths = [str(Path(__file__).parents[2]), *kept.get("PYTHONPATH", "").split(os.pathsep)]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


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


def _main() -> None:
    """The fresh process: loads a folder and writes its logits."""
    parser = argparse.ArgumentParser()
    for name in ("folder", "answer", "--device", "--attention"):
        parser.add_argument(name)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    register()
    model = AutoModelForCausalLM.from_pretrained(args.folder, dtype="auto", attn_implementation=args.attention)
    safetensors.torch.save_file({"logits": probe(model.to(args.device)).cpu().contiguous()}, args.answer)


if __name__ == "__main__":
    _main()
