"""Maps as accounts of noise."""

from __future__ import annotations

import math

import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from torch import Tensor

import reference
from auditcore.errors import ShapeError
from auditcore.metrics.infidelity import account_of_noise, infidelity

DRAWS = 6


def values(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def curved(inputs: Tensor) -> Tensor:
    """A nonlinear score, one per image."""
    return inputs.pow(3).sum(dim=(1, 2, 3)) + inputs.flatten(1)[:, 0].sin()


@pytest.mark.parametrize("channels", [1, 3])
def test_account_equals_its_definition(channels: int) -> None:
    maps, noise = values(4, channels, 5, 6), values(4, 3, 5, 6, seed=2)
    accounts = account_of_noise(maps, noise)
    for copy in range(4):
        expected = reference.account_of_noise(maps[copy].double().numpy(), noise[copy].double().numpy())
        assert accounts[copy].item() == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_a_map_of_one_channel_spreads_evenly_and_keeps_its_sum() -> None:
    noise, map_ = values(2, 3, 5, 5), values(2, 1, 5, 5, seed=3)
    spread = (map_ / 3).expand(-1, 3, -1, -1)
    torch.testing.assert_close(account_of_noise(map_, noise), account_of_noise(spread, noise), rtol=1e-6, atol=1e-7)
    # an equal change of all channels is accounted for by the relevance as it stands
    ones = torch.ones_like(noise)
    torch.testing.assert_close(account_of_noise(map_, ones), map_.double().sum(dim=(1, 2, 3)))


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_equals_its_definition(normalize: bool) -> None:  # noqa: FBT001 - a parameter of the test
    accounts, changes = values(5, DRAWS), values(5, DRAWS, seed=4)
    scores = infidelity(accounts, changes, normalize=normalize)
    for image in range(5):
        expected = reference.infidelity(
            accounts[image].double().tolist(), changes[image].double().tolist(), normalize=normalize
        )
        assert scores[image].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_agrees_with_captum(normalize: bool) -> None:  # noqa: FBT001 - a parameter of the test
    inputs, maps = values(3, 3, 5, 5).double(), values(3, 3, 5, 5, seed=5).double()
    noise = 0.1 * values(3 * DRAWS, 3, 5, 5, seed=6).double()
    foreign = captum_infidelity(
        curved,
        lambda repeated: (noise, repeated - noise),
        inputs,
        maps,
        n_perturb_samples=DRAWS,
        normalize=normalize,
    )
    repeated = inputs.repeat_interleave(DRAWS, dim=0)
    accounts = account_of_noise(maps.repeat_interleave(DRAWS, dim=0), noise).view(3, DRAWS)
    changes = (curved(repeated) - curved(repeated - noise)).view(3, DRAWS)
    torch.testing.assert_close(infidelity(accounts, changes, normalize=normalize), foreign, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_a_linear_score_accounts_for_everything() -> None:
    weights, noise = values(1, 3, 5, 5).expand(DRAWS, -1, -1, -1), values(DRAWS, 3, 5, 5, seed=7)
    changes = (weights.double() * noise.double()).sum(dim=(1, 2, 3))[None]
    exact = account_of_noise(weights, noise)[None]
    assert infidelity(exact, changes, normalize=False).item() == pytest.approx(0, abs=1e-24)
    assert infidelity(3 * exact, changes, normalize=False).item() > 0.1
    # the factor that suits a map best undoes its scale, and its sign
    assert infidelity(-3 * exact, changes, normalize=True).item() == pytest.approx(0, abs=1e-24)


def test_normalizing_never_hurts() -> None:
    accounts, changes = values(20, DRAWS), values(20, DRAWS, seed=8)
    assert (
        infidelity(accounts, changes, normalize=True) <= infidelity(accounts, changes, normalize=False) + 1e-12
    ).all()


def test_a_zero_map_is_wrong_by_all_of_the_change_but_has_no_best_factor() -> None:
    changes = values(1, DRAWS)
    zero = torch.zeros(1, DRAWS)
    assert infidelity(zero, changes, normalize=False).item() == pytest.approx(changes.double().square().mean().item())
    assert infidelity(zero, changes, normalize=True).isnan().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_undefined(value: float) -> None:
    spoiled = values(2, DRAWS)
    spoiled[1, 2] = value
    for normalize in (False, True):
        found = infidelity(spoiled, values(2, DRAWS, seed=4), normalize=normalize)
        assert found.isnan().tolist() == [False, True]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="noise"):
        account_of_noise(values(2, 3, 5, 5), values(2, 3, 5, 4))
    with pytest.raises(ShapeError, match="channels"):
        account_of_noise(values(2, 2, 5, 5), values(2, 3, 5, 5))
    with pytest.raises(ShapeError):
        infidelity(values(2, 3), values(2, 4), normalize=False)
    with pytest.raises(ShapeError, match="draw"):
        infidelity(torch.empty(2, 0), torch.empty(2, 0), normalize=False)
