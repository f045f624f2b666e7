"""Where things are in each architecture."""

from __future__ import annotations

from typing import Any

from midistill_tasks.models.surgery import first_projections, n_parameters


def test_a_fused_gate_and_up_projection_is_found(stock: Any) -> None:
    model = stock.model("phi3", intermediate_size=32, pad_token_id=0)
    assert first_projections(model, model.config)[0][1] == ["gate_up_proj"]


def test_projections_outside_the_ffn_are_left_alone(stock: Any) -> None:
    # OPT-350m projects its embeddings with a pair of such shapes.
    model = stock.model("opt", word_embed_proj_dim=8, ffn_dim=16)
    assert [names for _, names in first_projections(model, model.config)] == [["fc1"], ["fc1"]]


def test_n_parameters_counts_tied_weights_once(stock: Any) -> None:
    model = stock.model("gpt2")
    assert model.config.tie_word_embeddings
    assert n_parameters(model.config) == sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())
