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
from auditcore.contracts.models import DemoModel, FactoryModel, TorchvisionModel, Weights
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.shards import Wave
from auditcore.costs.cost_model import (
    ModelSpeed,
    estimate_of,
    model_identity,
    most_expensive_check,
    plan_identity,
)
from auditcore.costs.estimate import BACKWARD_COST, expected_passes, passes_of, waves_of, weight

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
    made = estimate_of(plan, images=10, speeds=(ModelSpeed.assumed(100.0),))
    assert made.passes == round(made.forward_images + BACKWARD_COST * made.backward_images)
    assert made.passes == pytest.approx(10 * passes_of(plan), rel=0.03)
    assert made.seconds == pytest.approx(made.passes / 100.0, abs=0.01)


def test_backward_passes_counted_by_hand() -> None:
    plan = plan_of(Gradient(), IntegratedGradients(steps=7), checks=(SensitivityCheck(draws=3),))
    # one map each of the original and of three draws: (1 + 7) * (1 + 3)
    assert estimate_of(plan, images=2, speeds=(ModelSpeed.assumed(1.0),)).backward_images == 2 * 8 * 4


@given(images=st.integers(1, 500), models=st.integers(1, 4), factor=st.floats(0.1, 10))
def test_price_grows_evenly_with_images_models_and_slowness(images: int, models: int, factor: float) -> None:
    plan = plan_of(Gradient())
    # images of one color pass once for all images, so the first image costs a little more than each of the others
    first, second = work(plan, 1), work(plan, 2)
    many = estimate_of(plan, images=images, speeds=(ModelSpeed.assumed(100.0 * factor),) * models)
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
    measured, assumed = ModelSpeed({"compute": 9.0}, device="cuda"), ModelSpeed.assumed(9.0)
    both = estimate_of(plan, images=1, speeds=(measured, measured))
    assert (both.basis, both.device) == ("measured", "cuda")
    mixed = estimate_of(plan, images=1, speeds=(measured, assumed))
    assert (mixed.basis, mixed.device) == ("assumed", None)


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
