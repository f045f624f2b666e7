"""A student as a model of its stock architecture, which needs no code of ours, where its interventions fold."""

from __future__ import annotations

import os

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import base_config, interventions_of
from midistill_tasks.models.reload import probe
from midistill_tasks.models.saving import save


def export_plain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike[str]) -> None:
    """Writes ``model``, a student whose interventions fold, as its stock architecture; compared, then saved.

    Raises:
        InputError: an intervention does not fold into the stock architecture, or ``folder`` is not free.
    """
    interventions = interventions_of(model.config)
    if not interventions:
        raise InputError(f"{type(model).__name__}: is a stock architecture already; its own folder needs no export")
    config, state = base_config(model.config), dict(model.state_dict())
    for intervention in interventions:
        intervention.fold(model, config, state)
    plain = AutoModelForCausalLM.from_config(config, dtype=model.dtype).to(model.device)
    plain.load_state_dict(state)
    wanted, got = probe(model).float(), probe(plain).float()
    tolerance = (1e-4 if model.dtype in (torch.float32, torch.float64) else 5e-2) * float(wanted.abs().max())
    if not torch.allclose(got, wanted, rtol=0, atol=tolerance):
        raise InputError(
            f"{type(model).__name__}: folded, its logits differ by up to {float((got - wanted).abs().max()):.2g}: "
            "this architecture cannot be exported; share the student's own folder instead"
        )
    save(plain, tokenizer, folder)
