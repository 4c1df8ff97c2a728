"""What methods that train on explanations have in common: explainers, prices, checkpoints, refusals."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import digits
import explained_batches
import small_networks
import small_trainings
from auditcore import (
    AccessRules,
    AuditPlan,
    CallableExplainer,
    Captum,
    DeletionCheck,
    DeletionLoss,
    Edda,
    EpochAudit,
    GradCam,
    Gradient,
    IntegratedGradients,
    Mixup,
    Occlusion,
    Precomputed,
    Random,
    RandomMasks,
    RandomPatches,
    Rise,
    ServedExplainer,
    Sgd,
    TrainingPlan,
    Zennit,
    train,
)
from auditcore.contracts.explainers import EXPLAINER_CONTRACTS, Explainer, Iba, KernelShap, default_explainers
from auditcore.contracts.models import Scores
from auditcore.contracts.training.methods import TRAINING_METHODS, TrainingMethod
from auditcore.contracts.training.plan import unfit_for_training
from auditcore.errors import ModelNotTrainable, TrainingDiverged, UnsafeReference
from auditcore.explainers.registry import applicability
from auditcore.models.classifier import Classifier
from auditcore.training.network import Network
from auditcore.training.registry import METHODS, method_of
from auditcore.training.training_run import TrainingRun

ANYWHERE = f"sha256:{0:064d}"
CHEAP: dict[str, Explainer] = {
    "rise": Rise(masks=20),
    "kernel_shap": KernelShap(samples=20),
}
"""Instead of the defaults of explainers that pass an image thousands of times."""

OTHERS: tuple[Explainer, ...] = (
    Precomputed(maps=ANYWHERE),
    Captum(method="InputXGradient"),
    Zennit(composite="EpsilonPlusFlat"),
    CallableExplainer(target="team_explainers:gradient"),
    ServedExplainer(protocol="kserve_v1", url="https://explain.example", model="explainer"),
)
"""Explainers that have no defaults."""

CATALOG = (*(CHEAP.get(one.kind, one) for one in default_explainers()), *OTHERS)


def test_every_explainer_and_every_method_is_here() -> None:
    assert {type(one) for one in CATALOG} == set(EXPLAINER_CONTRACTS)
    assert set(METHODS) == set(TRAINING_METHODS)


@pytest.mark.parametrize("explainer", CATALOG, ids=lambda one: one.kind)
def test_every_explainer_trains_a_step_or_is_refused_with_a_reason(explainer: Explainer) -> None:
    reason = unfit_for_training(explainer)
    for wanted in (Edda(explainer=explainer), DeletionLoss(explainer=explainer, grid=4, steps=2)):
        if reason is not None:
            with pytest.raises(ValidationError, match=r"cannot train with explainer '.*': its maps|it first measures"):
                TrainingPlan(epochs=1, method=wanted)
            continue
        own, one = explained_batches.network(), explained_batches.batch(range(203, 206))
        unable = applicability(own.start, explainer)
        if unable is not None:
            with pytest.raises(ModelNotTrainable, match=r"does not run on this model: .{20}") as caught:
                method_of(wanted, explained_batches.setting(own))
            assert caught.value.field == "plan.method.explainer"
            continue
        method = method_of(wanted, explained_batches.setting(own))
        before = own.start.ledger.forward_images, own.start.ledger.backward_images
        found = method.step(own, one)
        found.loss.backward()
        assert bool(torch.isfinite(found.loss))
        assert all(weight.grad is not None and bool(weight.grad.isfinite().all()) for weight in own.module.parameters())
        # the price is the most that an image can cost
        most = wanted.passes(own.start.shape).times(len(one))
        assert 0 < own.start.ledger.forward_images - before[0] <= most.forward
        if not isinstance(explainer, CallableExplainer):  # it says itself what it costs, and here it says nothing
            assert 0 < own.start.ledger.backward_images - before[1] <= most.backward


def test_what_the_plan_refuses() -> None:
    refused = {one.kind for one in CATALOG if unfit_for_training(one) is not None}
    assert refused == {"iba", "precomputed", "served_explainer"}
    with pytest.raises(ValidationError, match="such as grad_cam"):
        TrainingPlan(epochs=1, method=Edda(explainer=Iba()))


@pytest.mark.parametrize(
    "explainer", [GradCam(), IntegratedGradients(steps=5), Occlusion(), Random()], ids=lambda one: one.kind
)
@pytest.mark.parametrize("steps", [3, None])
def test_the_price_of_deletions_is_exact_where_every_map_gives_an_order(
    explainer: Explainer, steps: int | None
) -> None:
    own, one = explained_batches.network(), explained_batches.batch([200, 205])
    wanted = DeletionLoss(explainer=explainer, grid=3, steps=steps, mix=Mixup())
    method = method_of(wanted, explained_batches.setting(own))
    ledger = own.start.ledger
    before = ledger.forward_images, ledger.backward_images
    found = method.step(own, one)
    found.loss.backward()
    assert found.facts["constant_maps"] == 0
    expected = wanted.passes(own.start.shape).times(len(one))
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == expected[:2]


def test_the_price_of_edda_is_exact_where_both_copies_join() -> None:
    own, one = explained_batches.network(), explained_batches.batch()
    # one class is predicted whatever is masked
    with torch.no_grad():
        own.module.get_submodule("head").bias.copy_(torch.eye(10)[3] * 100)  # type: ignore[operator]
    rows = [row for row, label in enumerate(digits.digit_pixels()[1].tolist()) if label == 3][:6]
    one = explained_batches.batch(rows)
    wanted = Edda(explainer=Gradient())
    method = method_of(wanted, explained_batches.setting(own))
    ledger = own.start.ledger
    before = ledger.forward_images, ledger.backward_images
    found = method.step(own, one)
    found.loss.backward()
    assert found.facts["added_umasks"] == found.facts["added_imasks"] == 1
    expected = wanted.passes(own.start.shape).times(len(one))
    assert (ledger.forward_images - before[0], ledger.backward_images - before[1]) == expected[:2]


INTERRUPTED: list[tuple[TrainingMethod, Scores]] = [
    (Edda(), "softmax"),
    (Edda(explainer=Random(), keep_original=False, begin=0.5), "softmax"),
    (Edda(color="mean"), "sigmoid"),
    (DeletionLoss(grid=4, steps=2, mix=Mixup()), "softmax"),
    (DeletionLoss(grid=4, steps=2, explainer=Random()), "sigmoid"),
    (RandomMasks(), "softmax"),
    (RandomMasks(masks=RandomPatches()), "sigmoid"),
]


@pytest.mark.parametrize(("method", "scores"), INTERRUPTED, ids=lambda one: one if isinstance(one, str) else one.kind)
def test_an_interrupted_training_gives_the_same_bytes(method: TrainingMethod, scores: Scores) -> None:
    begin, wanted = explained_batches.knowing(scores), small_trainings.request(method, batch_size=14)
    whole = small_trainings.finished(wanted, begin)
    assert small_trainings.interrupted(wanted, begin, after=2) == whole
    assert small_trainings.finished(small_trainings.request(batch_size=14), begin) != whole


class Dense(nn.Module):
    """A network without feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


@pytest.mark.parametrize("method", [Edda(), DeletionLoss()], ids=lambda one: one.kind)
def test_a_model_without_the_layer_is_refused_before_the_first_step(method: TrainingMethod) -> None:
    wanted = small_trainings.request(method)
    with pytest.raises(
        ModelNotTrainable, match="'grad_cam' of the method does not run on this model: the model has no"
    ):
        small_trainings.run(wanted, small_trainings.start(network=Dense))


def test_a_layer_that_the_model_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(ModelNotTrainable, match=r"no layer 'norn' .*'norm'"):
        small_trainings.run(small_trainings.request(Edda(explainer=GradCam(layer="norn"))))


def test_functions_that_make_maps_need_the_operator() -> None:
    """Of the method, and of the audit after an epoch."""
    function = CallableExplainer(target="os:system")
    audited = EpochAudit(plan=AuditPlan(explainers=(GradCam(), function), checks=(DeletionCheck(),)))
    access = AccessRules(factories=("digits:build",))
    for wanted, field in (
        (small_trainings.request(Edda(explainer=function)), "plan.method.explainer.target"),
        (small_trainings.request(epoch_audit=audited), "plan.epoch_audit.plan.explainers.1.target"),
    ):
        with pytest.raises(UnsafeReference, match="'os:system' is not allowed") as caught:
            train(wanted, images=digits.encoded(30, labeled=True), access=access)
        assert caught.value.field == field


def test_evaluated_logits_are_those_of_the_frozen_model_and_have_gradients() -> None:
    own, one = explained_batches.network(), explained_batches.batch()
    found = own.evaluated(one.pixels)
    torch.testing.assert_close(found.detach(), own.predicted(one.pixels).clone())
    assert found.requires_grad
    assert own.module.training
    assert not torch.equal(own.logits(one.pixels), found)


def test_predictions_and_maps_say_that_training_has_diverged() -> None:
    """They may see weights that are no numbers before the loss does."""
    own, one = explained_batches.network(), explained_batches.batch()
    with torch.no_grad():
        own.module.get_submodule("head").bias.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(TrainingDiverged, match=r"NaN or infinite logits.* lower `plan.optimizer"):
        own.predicted(one.pixels)
    with pytest.raises(TrainingDiverged, match=r"NaN or infinite logits.* lower `plan.optimizer"):
        own.maps(Occlusion(), one.pixels, one.truth.int().argmax(dim=1), one.streams)


@pytest.mark.parametrize("method", [Edda(), DeletionLoss(grid=4, steps=1)], ids=lambda one: one.kind)
def test_a_training_that_diverges_ends_as_such(method: TrainingMethod) -> None:
    wanted = small_trainings.request(method, optimizer=Sgd(learning_rate=100), epochs=20)
    with pytest.raises(TrainingDiverged):
        small_trainings.finished(wanted, explained_batches.knowing())


def test_maps_come_without_diagnostics() -> None:
    """The completeness error would pass an image more."""
    own, one = explained_batches.network(), explained_batches.batch([200])
    before = own.start.ledger.forward_images
    own.maps(IntegratedGradients(steps=4), one.pixels, one.truth.int().argmax(dim=1), one.streams)
    assert own.start.ledger.forward_images - before == 4


@pytest.mark.parametrize("network", [small_networks.PlainNet, small_networks.TokenNet])
def test_other_architectures_train_too(network: type[nn.Module]) -> None:
    begin = Classifier(network(), preprocessing=digits.PREPROCESSING, trained=False)
    training, validation = small_trainings.labeled(30)
    run = TrainingRun(small_trainings.request(Edda(), epochs=1), begin, training, validation)
    run.advance()
    assert run.history.epochs[0].method.keys() == {
        "right_predictions",
        "added_umasks",
        "added_imasks",
        "constant_maps",
    }


def test_a_network_without_normalization_layers_may_learn_from_copies_of_one_image() -> None:
    own = Network(small_networks.plain())
    method = method_of(Edda(keep_original=False), explained_batches.setting(own))
    assert bool(torch.isfinite(method.step(own, explained_batches.batch([200])).loss))
