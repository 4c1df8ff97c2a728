"""Linear imputation against a dense system, a direct sparse solver and Quantus; the multigrid cycle inside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quantus.functions.perturb_func import noisy_linear_imputation as quantus_imputation
from scipy.ndimage import gaussian_filter
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics import imputation
from auditcore.metrics.imputation import linear_imputation, noisy_linear_imputation
from auditcore.metrics.multigrid import CENTER, OFFSETS, Grid, Multigrid, prolong, restrict


def uniform(*shape: int, seed: int = 6) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def masks(height: int, width: int) -> dict[str, Tensor]:
    """Missing pixels of every kind: none, one, scattered, holes, rims, and all but one."""
    nothing = torch.zeros(height, width, dtype=torch.bool)
    corner, hole, rim, almost = nothing.clone(), nothing.clone(), ~nothing, ~nothing
    corner[0, 0] = True
    hole[1:-2, 2:-1] = True
    rim[2:-2, 2:-2] = False
    almost[height // 2, 1] = False
    scattered = {f"scattered {share}": uniform(height, width, seed=7) < share for share in (0.2, 0.6, 0.9)}
    return {"none": nothing, "corner": corner, "hole": hole, "rim": rim, "almost all": almost, **scattered}


@pytest.mark.parametrize("size", [(8, 8), (13, 6), (5, 16)])
def test_imputation_equals_its_definition(size: tuple[int, int]) -> None:
    missing = torch.stack(list(masks(*size).values()))
    images = uniform(len(missing), 3, *size)
    imputed = linear_imputation(images, missing)
    for image, gone, found in zip(images, missing, imputed, strict=True):
        expected = reference.linear_imputation(image.double().numpy(), gone.numpy())
        np.testing.assert_allclose(found, expected, atol=2e-6)
    # the other pixels are untouched, to the bit
    kept = ~missing[:, None].expand_as(images)
    assert torch.equal(imputed[kept], images[kept])


@pytest.mark.parametrize("name", ["hole", "rim", "scattered 0.6", "scattered 0.9"])
def test_imputation_agrees_with_quantus(name: str) -> None:
    missing, image = masks(12, 12)[name], uniform(3, 12, 12)
    expected = quantus_imputation(image.double().numpy(), np.flatnonzero(missing), noise=0.0)
    np.testing.assert_allclose(linear_imputation(image[None], missing[None])[0], expected, atol=2e-6)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_wide_holes_agree_with_a_direct_solver(share: float) -> None:
    smooth = gaussian_filter(uniform(96, 96).numpy(), 12)
    missing = torch.from_numpy(smooth >= np.quantile(smooth, 1 - share))
    image = uniform(3, 96, 96)
    expected = quantus_imputation(image.double().numpy(), np.flatnonzero(missing), noise=0.0)
    imputed = linear_imputation(image[None], missing[None])[0]
    assert np.abs(imputed.numpy() - expected).max() < 1e-5


def test_a_hole_in_a_ramp_is_filled_with_the_ramp() -> None:
    rows, columns = torch.arange(20.0)[:, None], torch.arange(20.0)
    image = torch.stack([rows / 40 + columns / 50, columns / 20 + 0 * rows, 0.3 + 0 * rows * columns])[None]
    missing = torch.zeros(1, 20, 20, dtype=torch.bool)
    missing[:, 4:15, 3:17] = True
    torch.testing.assert_close(linear_imputation(image, missing), image, atol=2e-6, rtol=0)


def test_means_stay_inside_the_range_of_the_image() -> None:
    missing = uniform(2, 24, 24) < 0.8
    imputed = linear_imputation(uniform(2, 3, 24, 24), missing)
    assert imputed.min() >= 0
    assert imputed.max() <= 1


def test_values_of_missing_pixels_do_not_matter() -> None:
    missing = uniform(1, 16, 16) < 0.5
    images = uniform(1, 3, 16, 16)
    others = torch.where(missing[:, None], uniform(1, 3, 16, 16, seed=8), images)
    assert torch.equal(linear_imputation(images, missing), linear_imputation(others, missing))


def test_an_image_does_not_depend_on_the_rest_of_its_batch() -> None:
    missing = torch.stack([gone for name, gone in masks(16, 16).items()])
    images = uniform(len(missing), 3, 16, 16)
    together = linear_imputation(images, missing)
    for position in range(len(images)):
        one = slice(position, position + 1)
        torch.testing.assert_close(linear_imputation(images[one], missing[one]), together[one], atol=2e-7, rtol=0)


def test_noise_is_added_to_imputed_pixels_only_and_nothing_is_clipped() -> None:
    missing, images = uniform(2, 10, 10) < 0.4, uniform(2, 3, 10, 10)
    noise = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(9))
    noisy = noisy_linear_imputation(images, missing, noise)
    expected = linear_imputation(images, missing) + noise * missing[:, None]
    torch.testing.assert_close(noisy, expected)
    assert noisy.min() < 0
    assert noisy.max() > 1


def test_masks_that_do_not_fit_are_refused() -> None:
    images = uniform(2, 3, 8, 8)
    nothing = torch.zeros(2, 8, 8, dtype=torch.bool)
    with pytest.raises(ShapeError, match="mask of"):
        linear_imputation(images, nothing[:1])
    with pytest.raises(ShapeError, match="mask of"):
        linear_imputation(images, nothing[:, :7])
    everything = nothing.clone()
    everything[1] = True
    with pytest.raises(ShapeError, match="every pixel missing"):
        linear_imputation(images, everything)
    with pytest.raises(ShapeError, match="noise of shape"):
        noisy_linear_imputation(images, nothing, uniform(2, 1, 8, 8))


def test_an_unsolved_system_is_an_error_and_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "MOST_STEPS", 2)
    with pytest.raises(ArithmeticError, match="after 2 steps"):
        linear_imputation(uniform(1, 3, 32, 32), uniform(1, 32, 32) < 0.9)


# --- the multigrid cycle ---------------------------------------------------------------------------


def operator(missing: Tensor) -> Grid:
    grid, _ = imputation._system(torch.zeros(1, 3, *missing.shape, dtype=torch.float64), missing[None])
    return grid


def matrix(linear, height: int, width: int) -> Tensor:  # noqa: ANN001 - from a field to a field
    units = torch.eye(height * width, dtype=torch.float64).view(-1, height, width)
    return torch.stack([linear(unit[None, None]).flatten() for unit in units], dim=1)


@pytest.mark.parametrize("size", [(8, 8), (7, 8), (1, 5), (2, 1), (3, 3)])
def test_restriction_is_the_transpose_of_interpolation(size: tuple[int, int]) -> None:
    height, width = size
    up = matrix(lambda field: prolong(field, height, width), (height + 1) // 2, (width + 1) // 2)
    down = matrix(restrict, height, width)
    assert torch.equal(up.T, down)
    # constants stay constant up to the border, where nothing lies beyond
    torch.testing.assert_close(up.sum(dim=1), torch.ones(height * width, dtype=torch.float64))


@pytest.mark.parametrize("name", ["hole", "scattered 0.6", "almost all"])
def test_coarse_operators_are_galerkin_products(name: str) -> None:
    missing = masks(9, 6)[name]
    finest = operator(missing)
    fine = matrix(finest.apply, 9, 6)
    up = matrix(lambda field: prolong(field, 9, 6), 5, 3) * missing.flatten()[:, None]
    coarse = Multigrid(finest)._grids[1]
    torch.testing.assert_close(matrix(coarse.apply, 5, 3), up.T @ fine @ up)


def test_the_cycle_is_symmetric_positive_definite_on_the_unknowns() -> None:
    for missing in masks(9, 7).values():
        unknown = missing.flatten()
        cycle = matrix(Multigrid(operator(missing)), 9, 7)[:, unknown]
        assert not cycle[~unknown].any()
        torch.testing.assert_close(cycle[unknown], cycle[unknown].T)
        if unknown.any():
            assert torch.linalg.eigvalsh(cycle[unknown]).min() > 0


def test_the_operator_of_the_system_is_that_of_the_definition() -> None:
    stencil = operator(torch.ones(3, 3, dtype=torch.bool)).stencil[:, 0, 0]
    assert dict(zip(OFFSETS, stencil[:, 1, 1].tolist(), strict=True)) == pytest.approx(
        {at: 1.0 if at == (0, 0) else -1 / 12 if all(at) else -1 / 6 for at in OFFSETS}
    )
    # a corner has two direct neighbors and one diagonal one
    assert stencil[CENTER, 0, 0].item() == pytest.approx(2 / 6 + 1 / 12)


def test_the_cycle_reduces_the_error_for_any_hole() -> None:
    # so that few steps of conjugate gradients do: the largest eigenvalues of cycle x operator lie together
    smooth = torch.from_numpy(gaussian_filter(uniform(24, 24).numpy(), 3))
    for missing in (smooth > smooth.quantile(0.9), smooth > smooth.quantile(0.2), uniform(24, 24) < 0.9):
        grid = operator(missing)
        unknown = missing.flatten()
        product = (matrix(Multigrid(grid), 24, 24) @ matrix(grid.apply, 24, 24))[unknown][:, unknown]
        eigenvalues = torch.linalg.eigvals(product).real
        assert eigenvalues.max() / eigenvalues.min() < 5
