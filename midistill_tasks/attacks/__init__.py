"""The attacks: numpy only. A new one is a function with the decorator, and its line in `base.ATTACKS`."""

from __future__ import annotations

from midistill_tasks.attacks.base import ATTACKS, Attack, attack

__all__ = ["ATTACKS", "Attack", "attack"]
