"""Relevance against boxes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from quantus import AttributionLocalisation
from skimage.measure import label, regionprops
from torch import Tensor
from torchvision.ops import box_iou

import reference
from auditcore.errors import ShapeError
from auditcore.images.preprocess import PixelBox
from auditcore.metrics.localization import effective_heat_ratio, energy_pointing_game, inside_boxes, wsol_iou

HEIGHT, WIDTH = 9, 12
WIDE = PixelBox(x0=1, y0=2, x1=9, y1=4)
BOXES = ((WIDE,), (WIDE, PixelBox(x0=7, y0=3, x1=12, y1=9)), (PixelBox(0, 0, 12, 9),), (PixelBox(11, 8, 12, 9),))
INSIDE = inside_boxes(BOXES, HEIGHT, WIDTH)


def maps(seed: int = 1) -> Tensor:
    """Smooth enough for regions of several pixels, with negative values."""
    noise = torch.randn(4, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)[:, 0]


def test_rows_are_y() -> None:
    mask = inside_boxes(((WIDE,),), HEIGHT, WIDTH)[0]
    assert mask.sum() == 8 * 2
    assert mask[2:4, 1:9].all()
    map_ = torch.zeros(1, HEIGHT, WIDTH)
    map_[0, 3, 8] = 1.0  # y = 3, x = 8: in the box, but not in the one with x and y exchanged
    assert energy_pointing_game(map_, mask[None]).item() == 1
    published = map_[0, WIDE.x0 : WIDE.x1, WIDE.y0 : WIDE.y1].sum() / map_.sum()
    assert published == 0


def test_energy_pointing_game_equals_its_definition_and_quantus() -> None:
    found = energy_pointing_game(maps(), INSIDE)
    foreign = AttributionLocalisation(
        abs=False, normalise=False, positive_attributions=True, disable_warnings=True
    ).evaluate_batch(
        x_batch=np.empty((4, 1, HEIGHT, WIDTH)),
        a_batch=maps()[:, None].double().numpy(),
        s_batch=INSIDE[:, None].numpy(),
    )
    for image in range(4):
        expected = reference.energy_pointing_game(maps()[image].double().numpy(), BOXES[image])
        assert found[image].item() == pytest.approx(expected, rel=1e-12)
        assert found[image].item() == pytest.approx(foreign[image], rel=1e-7)  # it adds 1e-9 to the sum
    assert found[2].item() == pytest.approx(1)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("quantiles", [2, 4, 11])
@pytest.mark.parametrize("ties", [True, False])
def test_effective_heat_ratio_equals_its_definition(
    weighted: bool,  # noqa: FBT001 - a parameter of the test
    quantiles: int,
    ties: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    values = (4 * maps()).round() / 4 if ties else maps()
    found = effective_heat_ratio(values, INSIDE, quantiles=quantiles, weighted=weighted)
    for image in range(4):
        expected = reference.effective_heat_ratio(
            values[image].double().numpy(), BOXES[image], quantiles, weighted=weighted
        )
        assert found[image].item() == pytest.approx(expected, rel=1e-10), image


def test_quantiles_are_those_of_numpy() -> None:
    values = maps().exp()
    heat = (values / values.amax(dim=(1, 2), keepdim=True)).double().flatten(1).numpy()
    thresholds = np.quantile(heat, np.linspace(0, 1, 6), axis=1).T
    areas = []
    for row, cuts, inside in zip(heat, thresholds, INSIDE.flatten(1).numpy(), strict=True):
        areas.append(np.trapezoid([inside[row >= cut].sum() / (row >= cut).sum() for cut in cuts], dx=1 / 5))
    found = effective_heat_ratio(values, INSIDE, quantiles=6, weighted=False)
    np.testing.assert_allclose(found, areas, rtol=1e-10)


def test_a_quantile_that_is_a_pixel_includes_it() -> None:
    # 0.3 * 10 is above 3 in floating point, so that a product would leave out the fourth of these 11 values
    row = torch.arange(1.0, 12.0).view(1, 1, 11)
    inside = torch.zeros(1, 1, 11, dtype=torch.bool)
    inside[0, 0, 3] = True
    found = effective_heat_ratio(row, inside, quantiles=11, weighted=False)
    shares = [1 / (11 - step) if step <= 3 else 0.0 for step in range(11)]
    assert found.item() == pytest.approx(np.trapezoid(shares, dx=0.1), rel=1e-12)


def test_scale_does_not_matter_and_no_map_is_overwritten() -> None:
    values = maps()
    before = values.clone()
    for factor in (0.5, 1e-20, 1e20):
        for metric in (
            lambda m: energy_pointing_game(m, INSIDE),
            lambda m: effective_heat_ratio(m, INSIDE, quantiles=11, weighted=True),
            lambda m: wsol_iou(m, BOXES, threshold=0.3),
        ):
            torch.testing.assert_close(metric(factor * values), metric(values), rtol=1e-5, atol=1e-9)
            assert torch.equal(metric(values)[1:2], metric(values.clone())[1:2])
    assert torch.equal(values, before)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6])
def test_wsol_iou_equals_its_definition(threshold: float) -> None:
    for seed in range(5):
        found = wsol_iou(maps(seed), BOXES, threshold=threshold)
        for image in range(4):
            expected = reference.wsol_iou(maps(seed)[image].double().numpy(), BOXES[image], threshold)
            assert found[image].item() == pytest.approx(expected, rel=1e-12), (seed, image)


def test_wsol_iou_agrees_with_scikit_image_and_torchvision() -> None:
    found = wsol_iou(maps(), BOXES, threshold=0.3)
    for image, map_ in enumerate(maps().numpy()):
        regions = regionprops(label(map_ >= 0.3 * map_.max(), connectivity=2))
        top, left, bottom, right = max(regions, key=lambda region: region.area).bbox
        overlaps = box_iou(torch.tensor([[left, top, right, bottom]]).float(), torch.tensor(BOXES[image]).float())
        assert found[image].item() == pytest.approx(overlaps.max().item(), rel=1e-6)


def test_the_largest_region_counts_not_the_hottest_and_corners_connect() -> None:
    map_ = torch.zeros(1, HEIGHT, WIDTH)
    map_[0, 0, 11] = 1.0
    map_[0, 5, 2] = map_[0, 6, 3] = map_[0, 7, 2] = 0.5
    around = PixelBox(x0=2, y0=5, x1=4, y1=8)
    assert wsol_iou(map_, ((around,),), threshold=0.4).item() == 1
    assert wsol_iou(map_, ((around,),), threshold=0.6).item() == 0


@pytest.mark.parametrize("values", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_maps_that_point_nowhere_are_undefined(values: float) -> None:
    map_ = torch.zeros(2, HEIGHT, WIDTH)
    map_[0] = maps()[0]
    map_[1, 2, 3] = values
    inside = INSIDE[:2]
    for found in (
        energy_pointing_game(map_, inside),
        effective_heat_ratio(map_, inside, quantiles=11, weighted=True),
        effective_heat_ratio(map_, inside, quantiles=11, weighted=False),
        wsol_iou(map_, BOXES[:2], threshold=0.2),
    ):
        assert found.isnan().tolist() == [False, True]


def test_an_image_without_boxes_has_no_overlap_to_speak_of() -> None:
    assert wsol_iou(maps()[:1], ((),), threshold=0.2).isnan().all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        energy_pointing_game(maps(), INSIDE[:, :3])
    assert caught.value.actual == (4, 3, WIDTH)
    with pytest.raises(ShapeError):
        effective_heat_ratio(maps(), INSIDE[:2], quantiles=11, weighted=True)
    with pytest.raises(ShapeError, match="2 quantiles"):
        effective_heat_ratio(maps(), INSIDE, quantiles=1, weighted=True)
    with pytest.raises(ShapeError, match="boxes"):
        wsol_iou(maps(), BOXES[:3], threshold=0.2)
