from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import Check, DeletionCheck, SensitivityCheck, SweepCheck
from auditcore.contracts.explainers import (
    Ablation,
    Explainer,
    Gradient,
    GuidedGradCam,
    IntegratedGradients,
    Occlusion,
    Random,
    Rise,
    SmoothGrad,
)
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel, Weights
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.shards import Wave
from auditcore.costs.cost_model import (
    ModelSpeed,
    estimate_of,
    model_identity,
    most_expensive_check,
    network_identity,
    plan_identity,
)
from auditcore.costs.estimate import BACKWARD_COST, expected_passes, passes_of, waves_of, weight
from auditcore.costs.image_size import assumed_passes_per_s, size_factor

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"

EXPLAINERS: tuple[Explainer, ...] = (
    Gradient(),
    IntegratedGradients(steps=7),
    SmoothGrad(samples=5),
    GuidedGradCam(),
    Occlusion(),
    Ablation(),
    Rise(masks=40),
    Random(),
)
CHECKS: tuple[Check, ...] = (
    DeletionCheck(grid=3, repeats=2),
    SensitivityCheck(draws=3),
    SweepCheck(augmentations=(Brightness(interval=(-0.2, 0.2)),), levels=4),
)


def plan_of(*explainers: Explainer, checks: tuple[Check, ...] = CHECKS, seed: int = 0) -> AuditPlan:
    return AuditPlan(explainers=explainers, checks=checks, seed=seed)


def work(plan: AuditPlan, images: int, wave: Wave = "compute") -> float:
    return weight(total(expected_passes(plan, wave=wave, images=images).values()))


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda explainer: explainer.kind)
def test_forward_and_backward_make_up_the_weighted_passes(explainer: Explainer) -> None:
    plan = plan_of(explainer)
    made = estimate_of(plan, images=10, speeds=(ModelSpeed.assumed(100.0, DemoModel()),))
    assert made.passes == round(made.forward_images + BACKWARD_COST * made.backward_images)
    assert made.passes == pytest.approx(10 * passes_of(plan), rel=0.03)
    assert made.seconds == pytest.approx(made.passes / 100.0, abs=0.01)


def test_backward_passes_counted_by_hand() -> None:
    plan = plan_of(Gradient(), IntegratedGradients(steps=7), checks=(SensitivityCheck(draws=3),))
    # one map each of the original and of three draws: (1 + 7) * (1 + 3)
    assert estimate_of(plan, images=2, speeds=(ModelSpeed.assumed(1.0, DemoModel()),)).backward_images == 2 * 8 * 4


@given(images=st.integers(1, 500), models=st.integers(1, 4), factor=st.floats(0.1, 10))
def test_price_grows_evenly_with_images_models_and_slowness(images: int, models: int, factor: float) -> None:
    plan = plan_of(Gradient())
    # images of one color pass once for all images, so the first image costs a little more than each of the others
    first, second = work(plan, 1), work(plan, 2)
    many = estimate_of(plan, images=images, speeds=(ModelSpeed.assumed(100.0 * factor, DemoModel()),) * models)
    expected = models * (first + (images - 1) * (second - first))
    assert many.passes == pytest.approx(expected, abs=1)
    assert many.seconds == pytest.approx(expected / (100.0 * factor), abs=0.01)


def test_each_wave_has_its_own_speed() -> None:
    plan = plan_of(Gradient(), checks=(SweepCheck(augmentations=(Brightness(),)),))
    assert waves_of(plan) == ("measure", "compute")
    measure, compute = (work(plan, 8, wave) for wave in waves_of(plan))
    speed = ModelSpeed({"measure": 10.0, "compute": 40.0}, device="cpu")
    made = estimate_of(plan, images=8, speeds=(speed,))
    assert made.seconds == pytest.approx(measure / 10 + compute / 40, abs=0.01)


def test_basis_is_measured_only_if_every_model_was() -> None:
    plan = plan_of(Gradient())
    measured, assumed = ModelSpeed({"compute": 9.0}, device="cuda"), ModelSpeed.assumed(9.0, DemoModel())
    both = estimate_of(plan, images=1, speeds=(measured, measured))
    assert (both.basis, both.device) == ("measured", "cuda")
    mixed = estimate_of(plan, images=1, speeds=(measured, assumed))
    assert (mixed.basis, mixed.device) == ("assumed", None)


def sized(side_px: int, name: str = "resnet50", channels: int = 3) -> TorchvisionModel:
    numbers = (0.5,) * channels
    seen = Preprocessing(resize=side_px, crop=side_px, mean=numbers, std=numbers)
    return TorchvisionModel(name=name, weights=Weights(uri="random:0"), preprocessing=seen)


@pytest.mark.parametrize("side_px", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_cost_what_their_pixels_cost(side_px: int, channels: int) -> None:
    plan = plan_of(Gradient())
    small, large = (
        estimate_of(plan, images=100, speeds=(ModelSpeed.assumed(100.0, sized(side, channels=channels)),))
        for side in (224, side_px)
    )
    assert large.seconds == pytest.approx(small.seconds * (side_px / 224) ** 2, rel=1e-3)
    assert (large.passes, large.basis) == (small.passes, "assumed")


def test_attention_costs_more_than_its_pixels() -> None:
    # 196 and 4096 tokens of 768 numbers, of which 4608 cost as much in pairs as they do one by one
    by_hand = 4096 * (1 + 4096 / 4608) / (196 * (1 + 196 / 4608))
    assert size_factor(sized(1024, "vit_b_16"), InputShape(3, 1024, 1024)) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("name", "numbers", "patch_px"),
    [
        ("vit_tiny_patch16_224", 192, 16),
        ("deit3_small_patch16_224.fb_in1k", 384, 16),
        ("vit_l_32", 1024, 32),
        ("vit_giant_patch14_dinov2", 1408, 14),
        ("beit", 768, 16),
    ],
)
def test_names_of_transformers_tell_their_width_and_patches(name: str, numbers: int, patch_px: int) -> None:
    large, small = (side**2 / patch_px**2 for side in (896, 224))
    by_hand = large * (1 + large / (6 * numbers)) / (small * (1 + small / (6 * numbers)))
    model = TimmModel(name=name, weights=Weights(uri="random:0"))
    assert size_factor(model, InputShape(3, 896, 896)) == pytest.approx(by_hand)


@pytest.mark.parametrize("name", ["swin_base_patch4_window7_224", "convit_not", "efficientnet_b0", "convnext_tiny"])
def test_other_architectures_follow_the_pixels(name: str) -> None:
    model = TimmModel(name=name, weights=Weights(uri="random:0"))
    assert size_factor(model, InputShape(3, 448, 224)) == 2


def test_models_for_small_images_are_not_taken_to_be_faster() -> None:
    assert assumed_passes_per_s(120.0, sized(32)) == 120.0
    # a model that does not say what it sees counts as one of 224 pixels
    assert assumed_passes_per_s(120.0, torchvision("random:0")) == 120.0


def test_methods_that_make_more_passes_over_larger_images_are_counted_so() -> None:
    plan = plan_of(Occlusion(window=32, stride=32), checks=(SensitivityCheck(draws=1),))
    small, large = (
        estimate_of(plan, images=1, speeds=(ModelSpeed.assumed(100.0, sized(side)),)) for side in (224, 448)
    )
    # 7 x 7 windows, and 14 x 14; of the original and of one draw
    assert large.forward_images - small.forward_images == 2 * (14**2 - 7**2)


def test_a_network_is_the_same_at_any_size_of_image() -> None:
    assert network_identity(sized(224)) == network_identity(sized(1024))
    assert model_identity(sized(224)) != model_identity(sized(1024))
    assert network_identity(sized(224)) != network_identity(sized(224, "resnet18"))
    assert network_identity(sized(224)) != model_identity(torchvision("random:0"))


def test_the_most_expensive_check_is_named_with_its_share() -> None:
    plan = plan_of(Gradient(), checks=(DeletionCheck(grid=14, repeats=5), SensitivityCheck(draws=1)))
    check, share = most_expensive_check(plan)
    assert check.label == "deletion"
    assert 0.99 < share < 1


def torchvision(uri: str, sha256: str | None = None, **changes: object) -> TorchvisionModel:
    return TorchvisionModel.model_validate({"name": "resnet50", "weights": {"uri": uri, "sha256": sha256}, **changes})


def test_pinned_bytes_are_one_model_at_any_location() -> None:
    one = model_identity(torchvision("file:///a/model.pt", DIGEST))
    assert one == model_identity(torchvision("https://models.example/model.pt", DIGEST))
    assert one == model_identity(torchvision(f"blob:{DIGEST}"))
    assert one != model_identity(torchvision("file:///a/model.pt", OTHER))
    assert one != model_identity(torchvision("file:///a/model.pt", DIGEST, classes=5))
    assert one != model_identity(torchvision("file:///a/model.pt"))
    assert model_identity(torchvision("random:1")) != model_identity(torchvision("random:2"))


def test_the_demo_model_equals_its_factory() -> None:
    spelled = DemoModel().as_factory()
    assert model_identity(DemoModel()) == model_identity(spelled)
    other = FactoryModel(
        target=spelled.target,
        args=spelled.args,
        weights=Weights(uri=spelled.weights.uri, sha256=spelled.weights.sha256),
        preprocessing=Preprocessing(),
    )
    assert model_identity(DemoModel()) != model_identity(other)


def test_a_seed_changes_no_price() -> None:
    assert plan_identity(plan_of(Gradient(), seed=1)) == plan_identity(plan_of(Gradient(), seed=2))
    assert plan_identity(plan_of(Gradient())) != plan_identity(plan_of(Random()))
