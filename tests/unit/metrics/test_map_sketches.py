"""Sketches of maps: what their products say of the correlations of the maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.map_sketches import SKETCH_SIZE, mean_correlations, sketch_maps

POSITIONS = 100 * 100


def correlated(images: int, positions: int, by: float, seed: int) -> Tensor:
    """Maps that share a part, so that each pair correlates by about `by`."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, positions, generator=generator, dtype=torch.float64)
    own = torch.randn(images, positions, generator=generator, dtype=torch.float64)
    return math.sqrt(by) * shared + math.sqrt(1 - by) * own


@pytest.mark.parametrize("positions", [SKETCH_SIZE, 300, 2])
def test_correlations_of_small_maps_are_exact(positions: int) -> None:
    maps = correlated(5, positions, 0.4, seed=1)
    expected = reference.mean_correlations(maps.tolist())
    np.testing.assert_allclose(mean_correlations(sketch_maps(maps).numpy()), expected, rtol=0, atol=1e-12)


def test_the_replica_agrees_with_numpy() -> None:
    maps = correlated(5, 300, 0.4, seed=1)
    expected = (np.corrcoef(maps.numpy()).sum(axis=1) - 1) / 4
    assert reference.mean_correlations(maps.tolist()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("by", "spread"), [(0.0, 1 / 32), (0.5, 0.75 / 32), (0.9, 0.19 / 32)])
def test_correlations_of_large_maps_have_the_error_that_is_stated(by: float, spread: float) -> None:
    errors, means = [], []
    for seed in range(40):
        maps = correlated(8, POSITIONS, by, seed)
        sketches = sketch_maps(maps).numpy()
        exact = np.corrcoef(maps.numpy())
        pairs = np.triu_indices(8, 1)
        errors.append((sketches @ sketches.T - exact)[pairs])
        means.append(mean_correlations(sketches) - (exact.sum(axis=1) - 1) / 7)
    # errors of one set of maps go together, so the bias is judged over the 40 sets
    biases = np.mean(errors, axis=1)
    assert abs(biases.mean()) < 4 * biases.std(ddof=1) / math.sqrt(40)
    assert np.std(errors) == pytest.approx(spread, rel=0.25)
    assert np.abs(means).max() < 4 * spread


def test_scale_and_level_do_not_matter_and_a_sign_flips_the_correlation() -> None:
    maps = correlated(2, POSITIONS, 0.3, seed=2)
    sketches = sketch_maps(maps)
    torch.testing.assert_close(sketch_maps(1e-22 * maps), sketches)
    torch.testing.assert_close(sketch_maps(5 - 3 * maps), -sketches)
    assert (sketches * sketch_maps(-maps)).sum(dim=1).tolist() == pytest.approx([-1, -1])


def test_a_map_has_the_same_sketch_in_any_batch() -> None:
    maps = correlated(6, POSITIONS, 0.3, seed=3)
    together = sketch_maps(maps)
    for position in range(6):
        torch.testing.assert_close(
            sketch_maps(maps[position : position + 1])[0], together[position], rtol=0, atol=1e-14
        )


def test_sketches_of_different_releases_can_be_compared() -> None:
    # buckets and signs must not change between workers: a single relevant position shows where it falls
    one = torch.zeros(1, POSITIONS)
    one[0, 4321] = 1
    sketch = sketch_maps(one)[0]
    bucket = int(sketch.abs().argmax())
    assert (bucket, int(sketch[bucket].sign())) == BUCKET_OF_4321


BUCKET_OF_4321 = (336, -1)


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_map_without_a_correlation_has_no_sketch_and_does_not_affect_others(value: float) -> None:
    maps = correlated(3, POSITIONS, 0.3, seed=4)
    expected = sketch_maps(maps)
    maps[1] = 0
    maps[1, 7:] = value
    sketches = sketch_maps(maps)
    assert sketches.isnan().any(dim=1).tolist() == [False, True, False]
    torch.testing.assert_close(sketches[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-14)


def test_one_map_has_nothing_to_be_compared_with() -> None:
    with pytest.raises(ShapeError, match="two maps"):
        mean_correlations(np.ones((1, SKETCH_SIZE)))
