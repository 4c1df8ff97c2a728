"""Mixup against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

import mixed_batches
from auditcore import Mixup
from auditcore.training.methods.mixup import MixupTraining, blend
from mixed_batches import batch, network, run_step


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_images_and_labels_are_torchvisions(share: float) -> None:
    """torchvision takes the image before as partner; its `transform` is called with our share."""
    images = batch(network())
    labels = images.truth.int().argmax(dim=1)
    mixup = v2.MixUp(num_classes=mixed_batches.CLASSES)
    params = {"labels": labels, "batch_size": len(labels), "lam": share}
    partner = torch.arange(len(labels)).roll(1)
    assert torch.allclose(blend(images.pixels, partner, share), mixup.transform(images.pixels, params))
    assert torch.allclose(blend(images.targets, partner, share), mixup.transform(labels, params))


def test_a_step_mixes_with_the_share_and_partners_that_it_draws() -> None:
    trained = network()
    images = batch(trained)
    shown = run_step(MixupTraining(Mixup(alpha=0.4)), trained, images)
    again = batch(trained).random
    share, partner = again.beta(0.4, 0.4), torch.from_numpy(again.permutation(6))
    assert torch.allclose(shown.pixels, share * images.pixels + (1 - share) * images.pixels[partner], atol=1e-5)
