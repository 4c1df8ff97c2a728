"""EDDA on models where logits, or the most probable class, would mislead."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from auditcore.checks.edda import compute
from auditcore.contracts.checks import EddaCheck
from auditcore.contracts.explainers import Gradient, InputXGradient, Random
from auditcore.models.classifier import Classifier
from naive_removal import ConstantNet, group_of, raw


class Brightness(nn.Module):
    """Logits below 0 that fall further the darker the image; the second label is always more probable."""

    def forward(self, x: Tensor) -> Tensor:
        level = 8 * x.mean(dim=(1, 2, 3)) - 6
        return torch.stack([level, level + 1], dim=1)


def measured(scores: str, pixels: Tensor) -> dict[str, tuple[float | None, ...]]:
    classifier = Classifier(Brightness(), preprocessing=raw(8), scores=scores)
    group = group_of(classifier, pixels, (InputXGradient(),))
    return {m.metric: m.values for m in compute(EddaCheck(keep=(0.5,)), group, {}) if not m.control}


def ramp(low: float) -> Tensor:
    """Images whose columns grow brighter from left to right, so that maps are not constant."""
    return (low + 0.01 * torch.arange(8.0)).expand(1, 3, 8, 8)


def test_negative_logits_do_not_turn_the_drop() -> None:
    # from logit -2 to -4: dividing logits would give a drop of -100 %, although the probability has fallen
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
    group = group_of(classifier, ramp(0.93), (InputXGradient(),))
    certain = {m.metric: m.values for m in compute(EddaCheck(keep=(0.5,)), group, {}) if not m.control}
    # another label is more probable throughout, which says nothing of this one
    assert certain["umask_agreement"] == (1.0,)
    assert certain["imask_flip"] == (0.0,)


def test_a_relative_change_of_an_improbable_target_is_undefined() -> None:
    # 0.0033: the bright half of a dark image on the model's mean color makes it hundreds of times more probable
    pixels = ramp(0.0)
    classifier = Classifier(Brightness(), preprocessing=raw(8), scores="sigmoid")
    group = group_of(classifier, pixels, (InputXGradient(),))
    assert 1e-3 < group.probabilities.item() < 0.01
    found = {m.metric: m for m in compute(EddaCheck(keep=(0.5,), thresholds=(0.5,)), group, {}) if not m.control}
    for metric in ("drop_percent", "increase_percent"):
        assert found[metric].values == (None,)
        assert "below 0.01 (`min_probability`)" in found[metric].reasons[0]
    for metric in ("sufficiency", "comprehensiveness", "umask_agreement", "imask_flip"):
        assert found[metric].values[0] is not None
    lower = compute(EddaCheck(keep=(0.5,), min_probability=1e-3), group, {})
    assert all(m.values[0] is not None for m in lower)


@pytest.mark.parametrize("color", ["black", "mean"])
def test_removed_pixels_have_the_color_of_the_plan(color: str) -> None:
    gray = (0.5, 0.5, 0.5)
    preprocessing = raw(8).model_copy(update={"mean": gray, "std": (0.25, 0.25, 0.25)})
    classifier = Classifier(Shade(), preprocessing=preprocessing, scores="sigmoid")
    group = group_of(classifier, ramp(0.46), (InputXGradient(),))
    check = EddaCheck.model_validate({"keep": (0.5,), "color": color, "rank_by": "signed"})
    found = {m.metric: m.values for m in compute(check, group, {}) if not m.control}
    # input times gradient rises with the column: the left half is masked
    masked = ramp(0.46).clone()
    masked[..., :4] = 0.5 if color == "mean" else 0
    expected = ((masked - 0.5) / 0.25).mean().sigmoid().item() - group.probabilities.item()
    assert found["sufficiency"][0] == pytest.approx(expected, rel=1e-4)


class Shade(nn.Module):
    """Two labels, of which the first is the mean of the normalized input."""

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean(dim=(1, 2, 3))
        return torch.stack([level, -level], dim=1)


def test_a_threshold_masks_what_the_equations_mask() -> None:
    # columns are scaled to 0, 1/7, ..., 1: above 3/7 are four, below it three, and the pixels at it are in neither
    group = group_of(Classifier(Brightness(), preprocessing=raw(8), scores="sigmoid"), ramp(0.93), (InputXGradient(),))
    found = {(m.metric, m.explainer): m.values for m in compute(EddaCheck(keep=(), thresholds=(3 / 7,)), group, {})}
    bright, dark = ramp(0.93).clone(), ramp(0.93).clone()
    bright[..., :4], dark[..., 3:] = 0, 0
    whole = group.probabilities.item()
    alone, without = ((8 * picture.mean() - 6).sigmoid().item() for picture in (bright, dark))
    assert found["sufficiency", "input_x_gradient"][0] == pytest.approx(alone - whole, rel=1e-4)
    assert found["comprehensiveness", "input_x_gradient"][0] == pytest.approx(whole - without, rel=1e-4)
    assert found["kept_share", "input_x_gradient"] == (0.5,)


def test_every_sub_case_has_its_control() -> None:
    group = group_of(Classifier(Brightness(), preprocessing=raw(8), scores="sigmoid"), ramp(0.93), (InputXGradient(),))
    check = EddaCheck(keep=(0.15, 0.5), thresholds=(0.2, 0.5))
    assert check.variants == ("top_15", "top_50", "tau_0.2", "tau_0.5")
    found = compute(check, group, {})
    assert {m.variant for m in found if m.explainer == "random"} == set(check.variants)
    assert all(m.control for m in found if m.explainer == "random")
    shares = {m.variant: m.values[0] for m in found if (m.metric, m.explainer) == ("kept_share", "random")}
    assert set(shares) == {"tau_0.2", "tau_0.5"}
    maps = group.original(Random()).maps.sum(dim=1)
    scaled = (maps - maps.min()) / (maps.max() - maps.min())
    assert shares["tau_0.2"] == pytest.approx((scaled > 0.2).double().mean().item(), rel=1e-4)
    assert shares["tau_0.5"] == pytest.approx((scaled > 0.5).double().mean().item(), rel=1e-4)
    assert shares["tau_0.5"] < shares["tau_0.2"]


def test_a_constant_map_has_no_threshold() -> None:
    group = group_of(Classifier(ConstantNet(), preprocessing=raw(8)), torch.rand(2, 3, 8, 8), (Gradient(),))
    for measured in compute(EddaCheck(keep=(), thresholds=(0.5,)), group, {}):
        if measured.explainer == "gradient":
            assert measured.values == (None, None)
            assert "constant" in measured.reasons[1]
        else:
            assert None not in measured.values
