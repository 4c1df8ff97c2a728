"""Which layouts of feature maps are recognized, and how each becomes (N,C,h,w)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditcore.contracts.input_shape import InputShape
from auditcore.errors import ShapeError
from auditcore.models.feature_maps import Layout, as_maps, layout_of

SQUARE, WIDE = InputShape(3, 32, 32), InputShape(3, 48, 192)
CONV, LINEAR, NORM, RELU = nn.Conv2d(1, 1, 1), nn.Linear(1, 1), nn.LayerNorm(1), nn.ReLU()


@pytest.mark.parametrize(
    ("layer", "shape", "layout"),
    [
        (CONV, (2, 7, 5, 5), "channels_first"),
        (RELU, (2, 7, 5, 5), "channels_first"),
        (NORM, (2, 5, 5, 7), "channels_last"),
        (RELU, (2, 5, 5, 7), "channels_last"),
        # as many channels as rows: the layer decides
        (CONV, (2, 5, 5, 5), "channels_first"),
        (RELU, (2, 5, 5, 5), "channels_first"),
        (LINEAR, (2, 5, 5, 5), "channels_last"),
        (NORM, (2, 5, 5, 5), "channels_last"),
        # a convolution without padding in one direction
        (CONV, (2, 7, 5, 4), "channels_first"),
        (RELU, (2, 7, 5, 4), None),
        (LINEAR, (2, 16, 8), "tokens"),
        (LINEAR, (2, 17, 8), "tokens"),
        (LINEAR, (2, 201, 8), "tokens"),
        (LINEAR, (2, 22, 8), None),
        # one position is none
        (CONV, (2, 7, 1, 1), None),
        (NORM, (2, 1, 1, 7), None),
        (LINEAR, (2, 2, 8), None),
        (LINEAR, (2, 8), None),
        # windows of attention, not images
        (LINEAR, (8, 16, 8), None),
        (CONV, (8, 7, 5, 5), None),
    ],
)
def test_layouts(layer: nn.Module, shape: tuple[int, ...], layout: Layout | None) -> None:
    assert layout_of(layer, torch.zeros(shape), SQUARE, images=2) == layout


@pytest.mark.parametrize(
    ("layer", "shape", "layout"),
    [
        (CONV, (2, 7, 12, 48), "channels_first"),
        (RELU, (2, 7, 12, 48), "channels_first"),
        (NORM, (2, 12, 48, 7), "channels_last"),
        # strides that do not divide the input round one position away
        (RELU, (2, 7, 5, 18), "channels_first"),
        (RELU, (2, 7, 12, 12), None),
        # patches of 16 pixels, with and without a class token
        (LINEAR, (2, 3 * 12, 8), "tokens"),
        (LINEAR, (2, 1 + 3 * 12, 8), "tokens"),
        # a square number of tokens is no grid here
        (LINEAR, (2, 49, 8), None),
    ],
)
def test_layouts_of_a_wide_input(layer: nn.Module, shape: tuple[int, ...], layout: Layout | None) -> None:
    assert layout_of(layer, torch.zeros(shape), WIDE, images=2) == layout


def test_tokens_of_a_wide_input_become_maps() -> None:
    maps = torch.rand(2, 5, 3, 12)
    tokens = torch.cat([torch.full((2, 1, 5), torch.nan), maps.flatten(2).mT], dim=1)
    assert torch.equal(as_maps(tokens, "tokens", WIDE), maps)
    with pytest.raises(ShapeError, match="a grid"):
        as_maps(tokens[:, :30], "tokens", WIDE)


def test_an_output_that_is_not_a_tensor_has_no_layout() -> None:
    assert layout_of(nn.MultiheadAttention(4, 1), (torch.zeros(2, 16, 4), None), SQUARE, images=2) is None


def test_every_layout_becomes_the_same_maps() -> None:
    maps = torch.rand(2, 3, 4, 4)
    prefix = torch.full((2, 1, 3), torch.nan)
    layouts: dict[Layout, Tensor] = {
        "channels_first": maps,
        "channels_last": maps.permute(0, 2, 3, 1),
        "tokens": torch.cat([prefix, maps.flatten(2).mT], dim=1),
    }
    for layout, values in layouts.items():
        assert torch.equal(as_maps(values, layout, SQUARE), maps)
