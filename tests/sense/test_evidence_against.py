"""A suppressor: a patch that speaks against the class. Signed maps of regions know it, and their sign is used."""

from __future__ import annotations

import pytest
import torch

import planted_audits

SIGNED = ("occlusion", "ablation", "kernel_shap", "input_x_gradient", "integrated_gradients", "deep_lift")


@pytest.mark.parametrize("method", SIGNED)
def test_what_speaks_against_the_class_is_negative(method: str) -> None:
    images, found = planted_audits.images("suppressor"), planted_audits.maps("suppressor")[method]
    towards, against = ((found * place).sum((1, 2)) for place in (images.truth, images.second))
    assert (towards > 0).float().mean() >= 0.95
    assert (against < 0).float().mean() >= 0.9


@pytest.mark.parametrize("method", ["occlusion", "ablation"])
def test_the_order_by_sign_keeps_the_probability_up(method: str) -> None:
    """Deleted first, the suppressor leaves the class more certain; by magnitude it stays until late."""
    explainer = next(one for one in planted_audits.METHODS if one["kind"] == method)
    found = planted_audits.run(
        "suppressor",
        {
            "seed": 3,
            "explainers": [explainer],
            "checks": [{"kind": "deletion", "grid": planted_audits.GRID, "rank_by": "both"}],
        },
    )
    by_sign, by_magnitude = (
        planted_audits.result(found, "deletion", "lerf_auc", method, order).mean for order in ("signed", "magnitude")
    )
    assert by_sign is not None
    assert by_magnitude is not None
    assert by_sign > by_magnitude + 0.005


def test_a_patch_for_the_class_ranks_above_one_against_it() -> None:
    images, found = planted_audits.images("suppressor"), planted_audits.maps("suppressor")
    for method in ("grad_cam", "rise"):
        towards, against = (
            torch.where(place, found[method], 0).sum((1, 2)) / place.sum((1, 2))
            for place in (images.truth, images.second)
        )
        assert (towards > against).float().mean() >= 0.9, method
