"""Relative distances of maps."""

from __future__ import annotations

import math

import pytest
import torch
from captum.metrics import sensitivity_max
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.sensitivity import max_sensitivity, relative_distance


def maps(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1.0, 1e-22, 1e15])
def test_distance_equals_its_definition_at_any_scale(channels: int, scale: float) -> None:
    before, after = scale * maps(4, channels, 6, 5), scale * maps(4, channels, 6, 5, seed=2)
    distances = relative_distance(before, after)
    for copy in range(4):
        expected = reference.relative_distance(before[copy].double().numpy(), after[copy].double().numpy())
        assert distances[copy].item() == pytest.approx(expected, rel=1e-12)


def test_largest_distance_agrees_with_captum() -> None:
    inputs = maps(3, 3, 6, 6).double()
    noise = 0.02 * (2 * torch.rand(3 * 4, 3, 6, 6, generator=torch.Generator().manual_seed(3)).double() - 1)

    def explanation(values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (values[0] ** 3 + values[0],)

    def captum_explanation(values: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return explanation(values if isinstance(values, tuple) else (values,))

    foreign = sensitivity_max(
        captum_explanation, inputs, perturb_func=lambda repeated: repeated + noise, n_perturb_samples=4
    )
    before = explanation((inputs,))[0].repeat_interleave(4, dim=0)
    after = explanation((inputs.repeat_interleave(4, dim=0) + noise,))[0]
    ours = max_sensitivity(relative_distance(before, after).view(3, 4))
    torch.testing.assert_close(ours, foreign, rtol=1e-12, atol=0)


def test_distance_ignores_the_scale_of_the_method_and_other_images() -> None:
    before, after = maps(3, 3, 6, 6), maps(3, 3, 6, 6, seed=2)
    torch.testing.assert_close(relative_distance(-4 * before, -4 * after), relative_distance(before, after))
    assert torch.equal(relative_distance(before[1:2], after[1:2]), relative_distance(before, after)[1:2])
    assert relative_distance(before, before).tolist() == [0, 0, 0]


def test_a_zero_map_is_undefined_not_infinite_and_not_divided_by_one() -> None:
    zero = torch.zeros(1, 3, 4, 4)
    assert relative_distance(zero, maps(1, 3, 4, 4)).isnan().all()
    assert relative_distance(zero, zero).isnan().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_map_that_is_not_finite_is_undefined(value: float) -> None:
    spoiled = maps(2, 3, 4, 4)
    spoiled[1, 0, 2, 2] = value
    assert relative_distance(maps(2, 3, 4, 4), spoiled).isnan().tolist() == [False, True]
    assert relative_distance(spoiled, maps(2, 3, 4, 4)).isnan().tolist() == [False, True]


def test_the_largest_of_the_draws_counts_and_an_undefined_one_undoes_it() -> None:
    assert max_sensitivity(torch.tensor([[0.1, 0.7, 0.3]])).item() == pytest.approx(0.7)
    assert max_sensitivity(torch.tensor([[0.1, math.nan, 0.3]])).isnan().all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        relative_distance(maps(2, 3, 4, 4), maps(2, 1, 4, 4))
    assert caught.value.actual == (2, 1, 4, 4)
    with pytest.raises(ShapeError, match="draw"):
        max_sensitivity(torch.empty(2, 0))
