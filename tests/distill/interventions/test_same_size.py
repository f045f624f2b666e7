"""The size of the control."""

from __future__ import annotations

from typing import Any

import pytest
from made_students import changes

from midistill_tasks.distill.interventions.same_size import same_params
from midistill_tasks.errors import InputError
from midistill_tasks.models.architectures import student_config
from midistill_tasks.models.surgery import n_parameters


def test_same_params_is_as_near_as_an_ffn_width_allows(stock: Any, architecture: str) -> None:
    config = stock.model(architecture).config
    target = n_parameters(student_config(config, changes(bottleneck=3)))
    control = same_params(config, target)
    assert type(control) is type(config)
    per_width = (n_parameters(same_params(config, 10**6)) - n_parameters(control)) / (
        width(same_params(config, 10**6)) - width(control)
    )
    assert abs(n_parameters(control) - target) <= per_width / 2


def width(config: Any) -> int:
    return int(
        next(getattr(config, key) for key in ("intermediate_size", "ffn_dim", "n_inner") if hasattr(config, key))
    )


def test_same_params_refuses_what_no_width_reaches(stock: Any) -> None:
    with pytest.raises(InputError, match="larger number"):
        same_params(stock.model("llama").config, 10)
