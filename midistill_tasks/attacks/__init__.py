"""The registry of attacks: a new one is a module (or a function in one) and its line here."""

from __future__ import annotations

from midistill_tasks.attacks.base import Attack
from midistill_tasks.attacks.likelihood import LOSS, REF, ZLIB
from midistill_tasks.attacks.mink import MINK, MINKPP
from midistill_tasks.attacks.recall import RECALL

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (LOSS, ZLIB, MINK, MINKPP, REF, RECALL)}

__all__ = ["ATTACKS", "Attack"]
