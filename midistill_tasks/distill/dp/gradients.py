"""The noisy gradient of a batch: each text's own is clipped, the sum gets noise (by Opacus' hooks and optimizer)."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from midistill_tasks.distill.dp.accounting import Mechanism
from midistill_tasks.errors import InputError

Batch = Mapping[str, Tensor]
LossOf = Callable[[Any, Batch], Tensor]
"""The model, and a batch of texts → the sum of their losses, each of its own text alone."""

TOLERANCE = 1e-3
"""Largest relative difference between a text's gradient from the hooks and autograd's."""


def logits_of(model: Any, batch: Batch) -> Tensor:
    """[B, T, V]. A row of positions a text: of one row for all, the gradient of GPT-2's positions has no texts."""
    ids = batch["input_ids"]
    positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    logits: Tensor = model(
        input_ids=ids, attention_mask=batch["attention_mask"], position_ids=positions, use_cache=False
    ).logits
    return logits


def secret_generator(device: torch.device | str = "cpu") -> torch.Generator:
    """Seeded by the operating system and by nothing that is written down: with a known seed the noise could be taken
    off again. So two runs of one recipe differ."""
    return torch.Generator(device=device).manual_seed(secrets.randbits(63))


class PrivateGradients:
    """Of a model that stays as it is, but for hooks that `close` takes off.

    Args:
        model: in training mode while batches are read.
        mechanism: its noise, and the expected batch.
        max_grad_norm: C, the norm to which a text's gradient is clipped.

    Raises:
        InputError: the gradients of single texts are not to be had of this architecture.
    """

    def __init__(self, model: Any, mechanism: Mechanism, max_grad_norm: float) -> None:
        from opacus.grad_sample import GradSampleHooks
        from opacus.optimizers import DPOptimizer

        # Of the embedding, whose ids have no gradient: the hook gets that of its output, which is what it needs.
        warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
        self.model, self.batch = model, mechanism.batch
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        try:
            self._hooks = GradSampleHooks(model, loss_reduction="sum")
        except NotImplementedError as error:
            raise InputError(_refused(model, str(error))) from error
        # Opacus' optimizer clips, sums and adds noise; the step is that of the Trainer, so the one within never acts.
        self._noisy = DPOptimizer(
            torch.optim.SGD(self.parameters, lr=0.0),
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=mechanism.batch,
            generator=secret_generator(self.parameters[0].device),
        )

    def take(self, batches: Iterable[Batch], loss_of: LossOf) -> Tensor:
        """Leaves in ``grad`` the noisy sum of the texts' clipped gradients over the expected batch.

        Args:
            batches: the texts of one step, as many at once as memory has room for; perhaps none.
            loss_of: of such a batch.

        Returns:
            The sum of the losses over the expected batch; no noise is in it.
        """
        self._noisy.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self.parameters[0].device)
        waiting = list(batches)
        for number, batch in enumerate(waiting, 1):
            of_batch = loss_of(self.model, batch)
            of_batch.backward()  # type: ignore[no-untyped-call]
            loss += of_batch.detach()
            self._add(last=number == len(waiting))
        if not waiting:  # the noise of a step that took no text is as large
            for parameter in self.parameters:
                parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
            self._add(last=True)
        return loss / self.batch

    def _add(self, last: bool) -> None:
        self._noisy.signal_skip_step(do_skip=not last)
        self._noisy.pre_step()
        for parameter in self.parameters:
            parameter.grad_sample = None
            if last:
                parameter.summed_grad = None
            else:
                parameter.grad = None

    def of_texts(self, batch: Batch, loss_of: LossOf) -> list[Tensor]:
        """Each parameter's gradients, one a text: [B, …], not clipped."""
        loss_of(self.model, batch).backward()  # type: ignore[no-untyped-call]
        found = [p.grad_sample for p in self.parameters]
        self._noisy.zero_grad(set_to_none=True)
        if any(gradient is None for gradient in found):
            raise ValueError("a parameter has no gradient")
        return found

    def check(self, loss_of: LossOf) -> None:
        """Compares the gradients of made-up texts with autograd's, one text at a time, without dropout.

        Raises:
            InputError: they differ: what the hooks see of this architecture is not all of it.
        """
        batch = _made_up(self.model)
        with _only_hooked_train(self.model):
            try:
                found = self.of_texts(batch, loss_of)
            except Exception as error:  # whatever a layer's forward raises where it is read text by text
                raise InputError(_refused(self.model, f"{type(error).__name__}: {error}")) from error
            expected = self._by_autograd(batch, loss_of)
        for (name, _), ours, theirs in zip(self._named(), found, expected, strict=True):
            if ours.shape != theirs.shape or (ours - theirs).norm() > TOLERANCE * theirs.norm() + 1e-7:
                raise InputError(_refused(self.model, f"those of {name} are not autograd's"))

    def _by_autograd(self, batch: Batch, loss_of: LossOf) -> list[Tensor]:
        self._hooks.disable_hooks()
        rows = []
        for row in range(len(batch["input_ids"])):
            of_text = {name: tensor[row : row + 1] for name, tensor in batch.items()}
            rows.append(torch.autograd.grad(loss_of(self.model, of_text), self.parameters))
        self._hooks.enable_hooks()
        return [torch.stack(gradients) for gradients in zip(*rows, strict=True)]

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def close(self) -> None:
        """Takes the hooks off."""
        self._hooks.remove_hooks()
        for parameter in self.parameters:
            for name in ("grad_sample", "summed_grad", "_forward_counter"):
                if hasattr(parameter, name):
                    delattr(parameter, name)


def _refused(model: Any, why: str) -> str:
    reason = " ".join(why.split())[:160]
    return (
        f"dp: the gradients of single texts are not to be had of {type(model).__name__} ({reason}): remove dp, or take"
        " another architecture, such as Llama, GPT-2 or GPT-NeoX"
    )


def _made_up(model: Any) -> dict[str, Tensor]:
    """Three texts of made-up tokens, of different lengths."""
    device = next(model.parameters()).device
    ids = torch.randint(model.config.vocab_size, (3, 6), generator=torch.Generator().manual_seed(0)).to(device)
    lengths = torch.tensor([[6], [4], [2]], device=device)
    mask = (torch.arange(6, device=device) < lengths).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


class _only_hooked_train:  # noqa: N801 (a context manager)
    """Within it modules with weights of their own are in training mode, where hooks see them, and dropout is not."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.was = self.model.training
        self.model.eval()
        for module in self.model.modules():
            module.training = any(p.requires_grad for p in module.parameters(recurse=False))

    def __exit__(self, *_: Any) -> None:
        self.model.train(self.was)
