"""EDDA on models where logits, or the most probable class, would mislead."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditcore.checks.edda import compute
from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.explainers import InputXGradient
from auditcore.models.classifier import Classifier
from naive_removal import chunk_of, raw


class Brightness(nn.Module):
    """Logits below 0 that fall further the darker the image; the second label is always more probable."""

    def forward(self, x: Tensor) -> Tensor:
        level = 8 * x.mean(dim=(1, 2, 3)) - 6
        return torch.stack([level, level + 1], dim=1)


def measured(scores: str, pixels: Tensor) -> dict[str, tuple[float | None, ...]]:
    classifier = Classifier(Brightness(), preprocessing=raw(8), scores=scores)
    chunk = chunk_of(classifier, pixels, (InputXGradient(),))
    return {m.metric: m.values for m in compute(EddaCheck(keep=(0.5,)), chunk, {}) if not m.control}


def ramp(low: float) -> Tensor:
    """Images whose columns grow brighter from left to right, so that maps are not constant."""
    return (low + 0.01 * torch.arange(8.0)).expand(1, 3, 8, 8)


def test_negative_logits_do_not_turn_the_drop() -> None:
    # logits from -2 to -4 are a drop of -100 % for whoever divides logits; the probability has fallen
    values = measured("sigmoid", ramp(0.46))
    alone = torch.tensor(8 * (ramp(0.46)[..., 4:].mean() / 2).item() - 6).sigmoid()
    whole = torch.tensor(8 * ramp(0.46).mean().item() - 6).sigmoid()
    assert values["drop_percent"][0] == pytest.approx(100 * (1 - alone / whole).item(), rel=1e-5)
    assert 0 < (values["drop_percent"][0] or 0) < 100
    assert values["increase_percent"] == (0.0,)


def test_a_multi_label_target_is_predicted_at_half() -> None:
    # half of the pixels of a bright image leave the label below 0.5, of a dark one it was below before
    bright = measured("sigmoid", ramp(0.93))
    assert bright["umask_agreement"] == (0.0,)
    assert bright["imask_flip"] == (1.0,)

    class Certain(Brightness):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 5

    classifier = Classifier(Certain(), preprocessing=raw(8), scores="sigmoid")
    chunk = chunk_of(classifier, ramp(0.93), (InputXGradient(),))
    certain = {m.metric: m.values for m in compute(EddaCheck(keep=(0.5,)), chunk, {}) if not m.control}
    # another label is more probable throughout, which says nothing of this one
    assert certain["umask_agreement"] == (1.0,)
    assert certain["imask_flip"] == (0.0,)
