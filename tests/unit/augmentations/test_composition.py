"""Two augmentations one after the other: values, order, what maps follow, what the contract refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

import reference
from auditcore.augmentations.composition import value_at
from auditcore.augmentations.registry import augment, unwarp, valid_mask, warp
from auditcore.contracts.augmentations import (
    Augmentation,
    Brightness,
    Composition,
    GaussianBlur,
    GaussianNoise,
    HorizontalFlip,
    JpegQuality,
    Rotate,
    Scale,
    Translate,
)
from auditcore.contracts.checks import Change
from auditcore.random_numbers.streams import Streams


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


def test_a_share_is_the_same_fraction_of_the_range_in_both() -> None:
    shares = torch.tensor([-1.0, -0.5, 0.0, 0.25, 1.0])
    assert value_at(Rotate(interval=(-30, 10)), shares).tolist() == [-30, -15, 0, 2.5, 10]
    torch.testing.assert_close(value_at(Scale(), shares), torch.tensor([0.8, 0.9, 1.0, 1.05, 1.2]))
    assert value_at(GaussianBlur(), shares).tolist() == [0, 0, 0, 1, 4]
    assert value_at(JpegQuality(), shares).tolist() == [10, 55, 100, 100, 100]
    assert value_at(HorizontalFlip(), shares[[0, 2, 4]]).tolist() == [0, 0, 1]


@pytest.mark.parametrize("share", [-1.0, -0.4, 0.6, 1.0])
def test_equals_both_definitions_one_after_the_other(share: float) -> None:
    augmentation = Composition(first=Rotate(interval=(-20, 35)), second=Brightness(interval=(-0.2, 0.5)))
    image = noise(1, 3, 11, 8)
    turned = reference.rotate(image[0].double().numpy(), share * (35 if share > 0 else 20))
    expected = reference.brightness(turned, share * (0.5 if share > 0 else 0.2))
    np.testing.assert_allclose(augment(augmentation, image, torch.tensor([share]))[0], expected, atol=1e-5)


def test_the_first_augmentation_is_applied_first() -> None:
    image, end = noise(1, 3, 12, 12), torch.ones(1)
    brighter, shift = Brightness(interval=(-0.5, 0.5)), Translate(interval=(-0.25, 0.25))
    dark_fill = augment(Composition(first=brighter, second=shift), image, end)
    bright_fill = augment(Composition(first=shift, second=brighter), image, end)
    assert dark_fill[..., 0, 0].max() == 0
    assert bright_fill[..., 0, 0].min() == 0.5


def test_both_draw_from_the_streams_of_the_image() -> None:
    augmentation = Composition(first=GaussianNoise(interval=(0, 0.1)), second=Brightness())
    image, end, streams = noise(1, 3, 6, 6), torch.ones(1), Streams(3, ("a",))
    noisy = augment(GaussianNoise(), image, torch.tensor([0.1]), streams)
    assert torch.equal(
        augment(augmentation, image, end, streams), augment(Brightness(), noisy, torch.tensor([100 / 255]))
    )
    with pytest.raises(TypeError, match="pass `streams`"):
        augment(augmentation, image, end)


def test_maps_masks_and_inverses_follow_only_the_moving_augmentation() -> None:
    value, maps = torch.tensor([0.5]), torch.randn(1, 2, 24, 20)
    degrees = torch.tensor([15.0])
    for augmentation in (
        Composition(first=Rotate(interval=(-30, 30)), second=GaussianBlur()),
        Composition(first=GaussianBlur(), second=Rotate(interval=(-30, 30))),
    ):
        assert augmentation.equivariant
        assert torch.equal(warp(augmentation, maps, value), warp(Rotate(), maps, degrees))
        assert torch.equal(unwarp(augmentation, maps, value), unwarp(Rotate(), maps, degrees))
        assert torch.equal(valid_mask(augmentation, value, (24, 20)), valid_mask(Rotate(), degrees, (24, 20)))


def test_two_moving_augmentations_are_undone_in_reverse() -> None:
    augmentation = Composition(first=HorizontalFlip(), second=Translate(interval=(-0.25, 0.25)), interval=(-1, 1))
    maps, value = torch.randn(1, 1, 8, 12), torch.ones(1)
    moved = warp(augmentation, maps, value)
    torch.testing.assert_close(moved[:, :, 2:, 3:], maps.flip(-1)[:, :, :-2, :-3], atol=1e-5, rtol=0)
    back = unwarp(augmentation, moved, value)
    torch.testing.assert_close(back[:, :, :6, 3:], maps[:, :, :6, 3:], atol=1e-5, rtol=0)
    mask = valid_mask(augmentation, value, (8, 12))
    assert mask.sum() == 6 * 9
    assert mask[:, :, 2:, 3:].all()


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"first": {"kind": "rotate"}, "second": {"kind": "rotate", "interval": [-5, 5]}}, "one augmentation twice"),
        ({"first": {"kind": "gaussian_noise"}, "second": {"kind": "gaussian_blur"}}, r"inside \[0.0, 1.0\]"),
        ({"first": {"kind": "gaussian_noise"}, "second": {"kind": "jpeg_quality"}}, "never change the image together"),
        (
            {"first": {"kind": "rotate", "interval": [-5, 0]}, "second": {"kind": "gaussian_blur"}},
            "never change the image together",
        ),
        ({"first": {"kind": "rotate"}, "second": {"kind": "horizontal_flip"}, "interval": "auto"}, "only the ends"),
        ({"first": {"kind": "rotate"}, "second": {"kind": "horizontal_flip"}, "interval": [-1, 0.5]}, "only the ends"),
        ({"first": {"kind": "rotate"}, "second": {"kind": "hue"}, "interval": [-2, 1]}, r"inside \[-1.0, 1.0\]"),
        ({"first": {"kind": "rotate"}, "second": {"kind": "composition"}}, "second"),
    ],
)
def test_refuses_what_makes_no_sense(request_: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TypeAdapter(Augmentation).validate_python({"kind": "composition"} | request_)


def test_an_interval_that_is_automatic_is_cut_to_the_sides_there_are() -> None:
    noisy_blur = Composition(first=GaussianNoise(), second=GaussianBlur(), interval="auto")
    assert noisy_blur.extent == (0, 1)
    assert Composition(first=Rotate(), second=GaussianBlur(), interval="auto").extent == (-1, 1)


@pytest.mark.parametrize(
    ("augmentation", "value"),
    [
        (HorizontalFlip(), 0.5),
        (HorizontalFlip(), 0),
        (Composition(first=Rotate(), second=HorizontalFlip()), 0.5),
        (Composition(first=GaussianNoise(), second=GaussianBlur(), interval="auto"), -1),
        (JpegQuality(), 100),
        (GaussianBlur(), -1),
    ],
)
def test_a_change_must_exist_and_change_something(augmentation: Augmentation, value: float) -> None:
    with pytest.raises(ValidationError, match="must be inside"):
        Change(augmentation=augmentation, values=(value,))


def test_a_change_lists_a_value_once() -> None:
    with pytest.raises(ValidationError, match="listed twice"):
        Change(augmentation=Rotate(), values=(5, -5, 5.0))
    assert Change(augmentation=HorizontalFlip(), values=(1,)).values == (1,)
