"""Mixup, whole and dissected, against a replica in float64."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import small_trainings
from auditcore import Mixup
from auditcore.training.draws import generator
from auditcore.training.method import TrainingBatch
from auditcore.training.methods.mixup import MixupTraining
from auditcore.training.network import Network

Mix = Literal["images_and_labels", "images", "labels"]


def batch(step: int) -> TrainingBatch:
    return small_trainings.run(small_trainings.request(seed=step))._batch(0, 0)


def replica(one: TrainingBatch, mix: Mix, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that the network sees, image by image, in float64."""
    random = generator(seed, "method", 0)
    share = random.beta(0.7, 0.7)
    partner = random.permutation(len(one))
    images, labels = [], []
    for own, other in enumerate(partner):
        x = one.pixels.double().numpy()[[own, other]]
        y = one.targets.double().numpy()[[own, other]]
        larger = 0 if share >= 0.5 else 1
        images.append(x[larger] if mix == "labels" else share * x[0] + (1 - share) * x[1])
        labels.append(y[larger] if mix == "images" else share * y[0] + (1 - share) * y[1])
    return np.stack(images), np.stack(labels)


@pytest.mark.parametrize("mix", ["images_and_labels", "images", "labels"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_network_sees_what_the_replica_makes(mix: Mix, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds on both sides of a share of a half."""
    one, network = batch(seed), small_trainings.network()
    seen: dict[str, torch.Tensor] = {}

    def logits(_self: Network, pixels: torch.Tensor) -> torch.Tensor:
        seen["pixels"] = pixels
        return torch.zeros(len(pixels), 10, requires_grad=True)

    def losses(_self: Network, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen["targets"] = targets
        return scores.sum(dim=1)

    monkeypatch.setattr(Network, "logits", logits)
    monkeypatch.setattr(Network, "losses", losses)
    MixupTraining(Mixup(alpha=0.7, mix=mix)).step(network, one)
    images, labels = replica(one, mix, seed)
    np.testing.assert_allclose(seen["pixels"].numpy(), images, atol=1e-6)
    np.testing.assert_allclose(seen["targets"].numpy(), labels, atol=1e-6)
    np.testing.assert_allclose(seen["targets"].sum(dim=1).numpy(), 1, atol=1e-6)


def test_shares_lie_on_both_sides_of_a_half() -> None:
    """Otherwise the test above would not see which one is the larger."""
    shares = [generator(seed, "method", 0).beta(0.7, 0.7) for seed in range(4)]
    assert min(shares) < 0.5 < max(shares)


@pytest.mark.parametrize("alpha", [0, -1, 101])
def test_a_share_needs_a_distribution(alpha: float) -> None:
    with pytest.raises(ValidationError, match="alpha"):
        Mixup(alpha=alpha)
