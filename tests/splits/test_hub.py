from __future__ import annotations

import datasets
import pytest

from midistill_tasks.errors import InputError
from midistill_tasks.splits import hub


def test_without_the_hub_the_message_asks_for_a_local_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match=r"'a/b' could not be loaded .*dataset_path"):
        hub.from_hub("a/b")
