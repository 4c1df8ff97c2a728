"""Relevance against boxes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from quantus import AttributionLocalisation
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from sklearn.metrics import average_precision_score, jaccard_score
from torch import Tensor
from torchvision.ops import box_iou, masks_to_boxes

import reference
from auditcore.errors import ShapeError
from auditcore.images.preprocess import PixelBox
from auditcore.metrics.localization import (
    average_precision,
    effective_heat_ratio,
    energy_pointing_game,
    hit_rate,
    inside_boxes,
    mask_box,
    mask_iou,
    near_objects,
    otsu_threshold,
    wsol_iou,
    wsol_iou_largest_region,
)

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


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ties", [True, False])
def test_effective_heat_ratio_equals_its_definition(seed: int, *, ties: bool) -> None:
    values = (4 * maps(seed)).round() / 4 if ties else maps(seed)
    found = effective_heat_ratio(values, INSIDE)
    for image in range(4):
        expected = reference.effective_heat_ratio(values[image].double().numpy(), BOXES[image])
        assert found[image].item() == pytest.approx(expected, rel=1e-10), image


@pytest.mark.parametrize("cells", [1, 3, 20])
def test_its_quantiles_are_those_of_numpy_over_what_remains(cells: int) -> None:
    """The steps of Zhang et al.'s code with the functions it calls, for maps in which few or many values remain."""
    values = maps().exp()
    values.flatten(1)[:, cells * 5 :] *= 0.01
    areas = []
    for map_, inside in zip(values.double().numpy(), INSIDE.numpy(), strict=True):
        heat = map_ / map_.max()
        remaining = heat[heat >= 0.1]
        cuts = np.minimum(np.quantile(remaining, np.linspace(0, 1, 11)), 0.99)
        ratios = [heat[(heat >= cut) & inside].sum() / (heat >= cut).sum() for cut in cuts]
        areas.append(np.trapezoid(ratios, np.linspace(0, 1, 11)))
    np.testing.assert_allclose(effective_heat_ratio(values, INSIDE), areas, rtol=1e-10)


def test_a_quantile_that_is_a_pixel_includes_it() -> None:
    # 0.3 * 10 is above 3 in floating point, so that a product would leave out the fourth of these 11 values
    row = torch.arange(10.0, 21.0).view(1, 1, 11)
    inside = torch.zeros(1, 1, 11, dtype=torch.bool)
    inside[0, 0, 3] = True
    shares = [13 / 20 / (11 - step) if step <= 3 else 0.0 for step in range(11)]
    assert effective_heat_ratio(row, inside).item() == pytest.approx(np.trapezoid(shares, dx=0.1), rel=1e-12)


@pytest.mark.parametrize("heat_outside", [0.0, 0.05])
def test_a_perfect_map_scores_1_a_flat_one_the_share_of_the_boxes_and_a_wrong_one_0(heat_outside: float) -> None:
    # quantiles over all pixels would give 0.1 to the one that covers a hundredth of the image
    perfect = INSIDE.double().clamp(min=heat_outside)
    right = effective_heat_ratio(perfect, INSIDE)
    assert right.tolist() == [1.0] * 4
    assert effective_heat_ratio(torch.ones_like(perfect), INSIDE).tolist() == pytest.approx(
        INSIDE.double().mean(dim=(1, 2)).tolist()
    )
    # the third box is the whole image, which no map can miss
    outside = (~INSIDE)[[0, 1, 3]]
    assert effective_heat_ratio(outside.double(), INSIDE[[0, 1, 3]]).tolist() == [0.0] * 3


def test_heat_counts_per_pixel_and_not_per_heat() -> None:
    """A pixel at half the heat outside weighs as much as one at full heat, so that spilling over costs."""
    map_ = torch.zeros(1, HEIGHT, WIDTH)
    map_[0, 0, 0], map_[0, 0, 1] = 1.0, 0.5
    inside = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    inside[0, 0, 0] = True
    # at the lowest quantile two pixels reach the threshold, at all others one
    assert effective_heat_ratio(map_, inside).item() == pytest.approx(np.trapezoid([0.5] + [1.0] * 10, dx=0.1))


def test_the_highest_threshold_is_below_the_maximum_so_that_one_pixel_does_not_decide() -> None:
    map_ = torch.zeros(1, HEIGHT, WIDTH)
    map_[0, 0, 0], map_[0, 0, 1] = 1.0, 0.995
    inside = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    inside[0, 0, 1] = True
    assert effective_heat_ratio(map_, inside).item() == pytest.approx(0.995 / 2)


def test_a_map_scores_the_same_in_any_batch() -> None:
    together = effective_heat_ratio(maps(), INSIDE)
    for image in range(4):
        assert effective_heat_ratio(maps()[[image]], INSIDE[[image]]).item() == together[image].item()


def test_scale_does_not_matter_and_no_map_is_overwritten() -> None:
    values = maps()
    before = values.clone()
    for factor in (0.5, 1e-20, 1e20):
        for metric in (
            lambda m: energy_pointing_game(m, INSIDE),
            lambda m: effective_heat_ratio(m, INSIDE),
            lambda m: wsol_iou(m, BOXES, threshold=0.3),
            lambda m: wsol_iou_largest_region(m, BOXES, threshold=0.3),
            lambda m: average_precision(m, INSIDE),
            lambda m: mask_iou(m, INSIDE, threshold=0.3),
            lambda m: hit_rate(m, near_objects(INSIDE, 1)),
        ):
            torch.testing.assert_close(metric(factor * values), metric(values), rtol=1e-5, atol=1e-9)
            assert torch.equal(metric(values)[1:2], metric(values.clone())[1:2])
    assert torch.equal(values, before)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6])
def test_overlaps_equal_their_definitions(threshold: float) -> None:
    for seed in range(5):
        whole = wsol_iou(maps(seed), BOXES, threshold=threshold)
        largest = wsol_iou_largest_region(maps(seed), BOXES, threshold=threshold)
        for image in range(4):
            map_ = maps(seed)[image].double().numpy()
            expected = reference.wsol_iou(map_, BOXES[image], threshold)
            assert whole[image].item() == pytest.approx(expected, rel=1e-12), (seed, image)
            expected = reference.wsol_iou_largest_region(map_, BOXES[image], threshold)
            assert largest[image].item() == pytest.approx(expected, rel=1e-12), (seed, image)


def test_overlaps_agree_with_scikit_image_and_torchvision() -> None:
    whole = wsol_iou(maps(), BOXES, threshold=0.3)
    largest = wsol_iou_largest_region(maps(), BOXES, threshold=0.3)
    for image, map_ in enumerate(maps().numpy()):
        hot = map_ >= 0.3 * map_.max()
        of_mask = masks_to_boxes(torch.from_numpy(hot)[None]) + torch.tensor([0, 0, 1, 1])
        regions = regionprops(label(hot, connectivity=2))
        top, left, bottom, right = max(regions, key=lambda region: region.area).bbox
        of_region = torch.tensor([[left, top, right, bottom]]).float()
        for found, own in ((whole, of_mask), (largest, of_region)):
            overlaps = box_iou(own, torch.tensor(BOXES[image]).float())
            assert found[image].item() == pytest.approx(overlaps.max().item(), rel=1e-6)


def test_the_box_of_the_mask_reaches_from_end_to_end_that_of_the_largest_region_does_not() -> None:
    map_ = torch.zeros(1, HEIGHT, WIDTH)
    map_[0, 0, 11] = 1.0
    map_[0, 5, 2] = map_[0, 6, 3] = map_[0, 7, 2] = 0.5
    region, mask, hottest = PixelBox(2, 5, 4, 8), PixelBox(2, 0, 12, 8), PixelBox(11, 0, 12, 1)
    # connected over corners, and the largest counts, not the hottest
    assert wsol_iou_largest_region(map_, ((region,),), threshold=0.4).item() == 1
    assert wsol_iou_largest_region(map_, ((region,),), threshold=0.6).item() == 0
    assert wsol_iou(map_, ((mask,),), threshold=0.4).item() == 1
    assert wsol_iou(map_, ((region,),), threshold=0.4).item() == pytest.approx(6 / 80)
    assert wsol_iou(map_, ((hottest,),), threshold=0.6).item() == 1


@pytest.mark.parametrize("values", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_maps_that_point_nowhere_are_undefined(values: float) -> None:
    map_ = torch.zeros(2, HEIGHT, WIDTH)
    map_[0] = maps()[0]
    map_[1, 2, 3] = values
    inside = INSIDE[:2]
    for found in (
        energy_pointing_game(map_, inside),
        effective_heat_ratio(map_, inside),
        wsol_iou(map_, BOXES[:2], threshold=0.2),
        wsol_iou_largest_region(map_, BOXES[:2], threshold=0.2),
        average_precision(map_, inside),
        mask_iou(map_, inside, threshold=None),
        mask_iou(map_, inside, threshold=0.2),
        hit_rate(map_, inside),
    ):
        assert found.isnan().tolist() == [False, True]


@pytest.mark.parametrize("overlap", [wsol_iou, wsol_iou_largest_region])
def test_an_image_without_boxes_has_no_overlap(overlap: Callable[..., Tensor]) -> None:
    assert overlap(maps()[:1], ((),), threshold=0.2).isnan().all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        energy_pointing_game(maps(), INSIDE[:, :3])
    assert caught.value.actual == (4, 3, WIDTH)
    for metric in (effective_heat_ratio, average_precision, hit_rate, lambda m, i: mask_iou(m, i, threshold=None)):
        with pytest.raises(ShapeError):
            metric(maps(), INSIDE[:2])
    for overlap in (wsol_iou, wsol_iou_largest_region):
        with pytest.raises(ShapeError, match="boxes"):
            overlap(maps(), BOXES[:3], threshold=0.2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [True, False])
def test_average_precision_equals_its_definition_and_scikit_learn(seed: int, *, ties: bool) -> None:
    values = (4 * maps(seed)).round() / 4 if ties else maps(seed)
    found = average_precision(values, INSIDE)
    for image in range(4):
        heat, mask = values[image].double().clamp(min=0).numpy(), INSIDE[image].numpy()
        expected = reference.average_precision(values[image].double().numpy(), mask.tolist())
        assert found[image].item() == pytest.approx(expected, rel=1e-12), image
        foreign = average_precision_score(mask.ravel(), heat.ravel())
        assert found[image].item() == pytest.approx(foreign, rel=1e-12), image


def test_average_precision_is_1_for_the_objects_and_their_share_for_a_flat_map() -> None:
    assert average_precision(INSIDE.double(), INSIDE).tolist() == pytest.approx([1.0] * 4)
    share = INSIDE.double().mean(dim=(1, 2)).tolist()
    assert average_precision(torch.ones(4, HEIGHT, WIDTH), INSIDE).tolist() == pytest.approx(share)


def test_a_map_that_misses_the_objects_is_below_their_share() -> None:
    outside = (~INSIDE)[[0, 1, 3]].double()
    share = INSIDE[[0, 1, 3]].double().mean(dim=(1, 2))
    assert (average_precision(outside, INSIDE[[0, 1, 3]]) <= share + 1e-12).all()


@pytest.mark.parametrize("seed", range(4))
def test_otsu_equals_its_definition_and_scikit_image(seed: int) -> None:
    values = maps(seed)
    found = otsu_threshold(values)
    for image in range(4):
        heat = values[image].double().clamp(min=0).numpy()
        assert found[image].item() == pytest.approx(reference.otsu_threshold(values[image].double().numpy()), rel=1e-9)
        assert found[image].item() == pytest.approx(threshold_otsu(heat), rel=1e-9)


def test_otsu_of_one_value_is_undefined() -> None:
    assert otsu_threshold(torch.ones(1, HEIGHT, WIDTH)).isnan().all()
    assert mask_iou(torch.ones(1, HEIGHT, WIDTH), INSIDE[:1], threshold=None).isnan().all()


@pytest.mark.parametrize("threshold", [None, 0.3])
def test_mask_iou_equals_its_definition_and_scikit_learn(threshold: float | None) -> None:
    for seed in range(3):
        values = maps(seed)
        found = mask_iou(values, INSIDE, threshold=threshold)
        for image in range(4):
            map_, mask = values[image].double().numpy(), INSIDE[image].numpy()
            assert found[image].item() == pytest.approx(reference.mask_iou(map_, mask.tolist(), threshold), rel=1e-12)
            heat = map_.clip(min=0)
            hot = heat > threshold_otsu(heat) if threshold is None else heat >= threshold * heat.max()
            assert found[image].item() == pytest.approx(jaccard_score(mask.ravel(), hot.ravel()), rel=1e-12)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_mask_iou_is_1_for_the_objects(threshold: float | None) -> None:
    # the third object is the whole image, which Otsu's threshold cannot separate from anything
    part = INSIDE[[0, 1, 3]]
    assert mask_iou(part.double(), part, threshold=threshold).tolist() == [1.0] * 3
    assert mask_iou((~part).double(), part, threshold=threshold).tolist() == [0.0] * 3


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3])
def test_hit_rate_equals_its_definition(tolerance: float) -> None:
    found = []
    for seed in range(5):
        values = maps(seed)
        hits = hit_rate(values, near_objects(INSIDE, tolerance))
        for image in range(4):
            expected = reference.hit_rate(values[image].double().numpy(), INSIDE[image].tolist(), tolerance)
            assert hits[image].item() == expected, (seed, image)
            found.append(expected)
    assert 0 < np.mean(found) < 1


def test_a_hit_may_be_the_tolerance_away_and_no_more() -> None:
    """The circle of Zhang et al. 2018: 3 to the right and 4 down are 5 pixels."""
    inside = torch.zeros(1, 20, 20, dtype=torch.bool)
    inside[0, 2, 3] = True
    map_ = torch.zeros(1, 20, 20)
    map_[0, 6, 6] = 1
    assert hit_rate(map_, near_objects(inside, 5)).item() == 1
    assert hit_rate(map_, near_objects(inside, 4.9)).item() == 0
    assert hit_rate(map_, near_objects(inside, 0)).item() == 0


def test_several_largest_pixels_count_by_their_share() -> None:
    map_ = torch.zeros(1, HEIGHT, WIDTH)
    map_[0, 2, 1] = map_[0, 8, 11] = map_[0, 3, 8] = map_[0, 0, 0] = 1
    assert hit_rate(map_, INSIDE[:1]).item() == 0.5


def test_images_without_objects_are_undefined() -> None:
    nothing = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    assert not near_objects(nothing, 15).any()
    for found in (
        average_precision(maps()[:1], nothing),
        mask_iou(maps()[:1], nothing, threshold=None),
        hit_rate(maps()[:1], near_objects(nothing, 15)),
    ):
        assert found.isnan().all()


def test_the_box_of_a_mask_is_around_all_of_it() -> None:
    assert mask_box(INSIDE[1]) == PixelBox(1, 2, 12, 9)
