"""Passes made == passes needed: the ledger of a shard against the closed formula of its plan, purpose by purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest

import digit_transformer
import digits
from auditcore.augmentations.registry import applicability as augmentation_applicability
from auditcore.contracts.augmentations import Brightness, HorizontalFlip, Interval, Rotate, Scale
from auditcore.contracts.checks import (
    Change,
    Check,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    Game,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
    interval_key,
)
from auditcore.contracts.explainers import (
    Ablation,
    Deconvolution,
    DeepLift,
    Explainer,
    GradCam,
    Gradient,
    GradientShap,
    GuidedBackpropagation,
    GuidedGradCam,
    Iba,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LrpEpsilonAlpha2Beta1Flat,
    LrpEpsilonGammaBox,
    LrpEpsilonPlusFlat,
    NoiseTunnel,
    Occlusion,
    Random,
    Rise,
    Saliency,
    SmoothGrad,
)
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult, Wave
from auditcore.costs.passes import ModelFacts, passes_needed
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.models.randomization import parameter_layers
from every_check import and_every_other_check
from every_explainer import on_convolutions, with_the_others

EXPLAINERS: tuple[Explainer, ...] = with_the_others(
    (
        Gradient(),
        Saliency(),
        InputXGradient(),
        IntegratedGradients(steps=3),
        IntegratedGradients(name="blurred", steps=2, baseline="blur"),
        GradientShap(samples=2),
        SmoothGrad(samples=2),
        NoiseTunnel(method=InputXGradient(), samples=2),
        NoiseTunnel(name="tunneled_ig", method=IntegratedGradients(steps=2, baseline="blur"), samples=2),
        DeepLift(),
        GuidedBackpropagation(),
        Deconvolution(),
        GradCam(),
        GuidedGradCam(),
        LrpEpsilonPlusFlat(),
        LrpEpsilonGammaBox(),
        LrpEpsilonAlpha2Beta1Flat(),
        Iba(steps=2, samples=3),
        Iba(name="neurons", steps=1, samples=2, statistics="neuron"),
        Occlusion(window=16, stride=16),
        Ablation(grid=3),
        Rise(masks=5, cells=4),
        KernelShap(segments="cells", count=4, samples=20),
        KernelShap(name="drawn", segments="cells", count=16, samples=11, baseline="blur"),
        Random(),
    )
)
CHECKS: tuple[Check, ...] = and_every_other_check(
    (
        SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)), Rotate(interval=(-10, 20))), levels=3),
        SweepCheck(name="automatic", augmentations=(Brightness(), Scale(), HorizontalFlip(interval=(0, 1))), levels=4),
        DeletionCheck(grid=3, repeats=2),
        DeletionCheck(name="black", grid=2, repeats=1, fill="black"),
        DeletionCheck(name="blur", grid=2, repeats=1, fill="blur"),
        EddaCheck(keep=(0.15, 0.5)),
        EddaCheck(name="thresholds", keep=(0.3,), thresholds=(0.2, 0.5), color="mean"),
        PixelFlippingCheck(pixels_per_step=70),
        InsertionDeletionCheck(pixels_per_step=300),
        InsertionDeletionCheck(name="on_black", games=("deletion_black", "insertion_black"), pixels_per_step=500),
        RoadCheck(shares=(0.2, 0.6)),
        SensitivityCheck(draws=2),
        InfidelityCheck(draws=3),
        RandomizationCheck(stages=2),
        ComplexityCheck(),
    ),
    without=(SsimSweepCheck, LocalizationCheck),
)


def run(
    classifier: Classifier, plan: AuditPlan, images: Sequence[EncodedImage], wave: Wave, measured: Sequence[ShardResult]
) -> ShardResult:
    return run_shard(
        ShardTask(plan=plan, wave=wave, images=images, shared=reduce_shared(plan, measured)),
        Runtime(classifier, micro_batch=5),
    )


def made(result: ShardResult) -> dict[str, tuple[int, int]]:
    return {name: (cost.forward_images, cost.backward_images) for name, cost in result.cost.checks.items()}


def asked(needed: dict[str, Passes]) -> dict[str, tuple[int, int]]:
    return {name: (passes.forward, passes.backward) for name, passes in needed.items()}


def facts_of(classifier: Classifier, plan: AuditPlan, measured: ShardResult, *, one_target: bool = True) -> ModelFacts:
    found = reduce_shared(plan, (measured,))
    augmentations = [
        augmentation for check in plan.checks if isinstance(check, SweepCheck) for augmentation in check.augmentations
    ]
    intervals: dict[str, Interval] = {
        interval_key(check, augmentation): (found[key][0], found[key][1])
        for check in plan.checks
        if isinstance(check, SweepCheck)
        for augmentation in check.augmentations
        if (key := interval_key(check, augmentation)) in found
    }
    return ModelFacts(
        shape=classifier.shape,
        layers=len(parameter_layers(classifier)),
        unavailable=frozenset(
            augmentation.label for augmentation in augmentations if augmentation_applicability(augmentation) is not None
        ),
        intervals=intervals,
        one_target=one_target,
    )


@pytest.mark.parametrize(("images", "groups"), [(4, 1), pytest.param(7, 2, marks=pytest.mark.long)])
def test_the_ledger_agrees_with_the_formula(
    digit_classifier: Classifier, images: int, groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditcore.engine.groups.LARGE_GROUP_IMAGES", 5)
    plan = AuditPlan(seed=5, explainers=on_convolutions(EXPLAINERS), checks=CHECKS)
    encoded = digits.encoded(images)
    measured = run(digit_classifier, plan, encoded, "measure", ())
    facts = facts_of(digit_classifier, plan, measured)
    assert made(measured) == asked(passes_needed(plan, wave="measure", images=images, facts=facts))
    computed = run(digit_classifier, plan, encoded, "compute", (measured,))
    assert made(computed) == asked(passes_needed(plan, wave="compute", images=images, facts=facts, groups=groups))


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda explainer: explainer.label)
def test_a_single_explainer_needs_the_passes_of_the_formula(digit_classifier: Classifier, explainer: Explainer) -> None:
    checks = (SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)),), levels=3), SensitivityCheck(draws=2))
    plan = AuditPlan(explainers=(explainer,), checks=checks)
    classifier = digit_transformer.suited(digit_classifier, explainer)
    encoded = digits.encoded(4)  # statistics of neurons need two images in either half
    measured = run(classifier, plan, encoded, "measure", ())
    facts = facts_of(classifier, plan, measured)
    computed = run(classifier, plan, encoded, "compute", (measured,))
    assert made(computed) == asked(passes_needed(plan, wave="compute", images=4, facts=facts))


def test_gradients_grad_cam_and_the_probability_curve_share_one_pass(digit_classifier: Classifier) -> None:
    checks = (SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)),), levels=3),)
    plan = AuditPlan(explainers=(Gradient(), InputXGradient(), Saliency(), GradCam()), checks=checks)
    computed = run(digit_classifier, plan, digits.encoded(4), "compute", ())
    # the original and two changed copies of each image, each once
    assert made(computed) == {"originals": (4, 4), "sweep": (8, 8)}


def test_maps_of_ssim_are_computed_only_for_accepted_copies(digit_classifier: Classifier) -> None:
    changes = (Change(augmentation=Rotate(), values=(-15.0, 15.0)), Change(augmentation=Brightness(), values=(0.01,)))
    plan = AuditPlan(
        explainers=(Gradient(), GuidedBackpropagation(), GuidedGradCam()), checks=(SsimSweepCheck(changes=changes),)
    )
    encoded = digits.encoded(6)
    measured = run(digit_classifier, plan, encoded, "measure", ())
    facts = facts_of(digit_classifier, plan, measured)
    assert made(measured) == asked(passes_needed(plan, wave="measure", images=6, facts=facts))
    computed = run(digit_classifier, plan, encoded, "compute", (measured,))
    (fractions,) = (m for m in computed.measurements if (m.metric, m.variant) == ("accepted_fraction", "all"))
    accepted = round(sum(3 * value for value in fractions.values if value is not None))
    assert 0 < accepted < 18
    needed = passes_needed(plan, wave="compute", images=6, facts=facts, accepted={"ssim_sweep": accepted})
    assert made(computed) == asked(needed)


@pytest.mark.parametrize("targets", [1, 3])
def test_a_check_counts_only_passes_of_the_explainers_it_runs_on(digit_classifier: Classifier, targets: int) -> None:
    explainers = (*EXPLAINERS[:4], *EXPLAINERS[6:8], *EXPLAINERS[10:14], Iba(steps=2, samples=3), Random())
    small = (Change(augmentation=Brightness(), values=(0.001, -0.001)),)
    checks: tuple[Check, ...] = (
        SsimSweepCheck(changes=small, tolerance=1.0, explainers=("gradient", "integrated_gradients")),
        SsimSweepCheck(name="guided", changes=small, tolerance=1.0, explainers=("guided_grad_cam", "saliency", "iba")),
        SweepCheck(augmentations=(Brightness(interval=(-0.3, 0.3)),), levels=3, explainers=("smoothgrad", "random")),
        DeletionCheck(grid=3, repeats=2, fill="black", explainers=("grad_cam",)),
        SensitivityCheck(draws=2, explainers=("deconvolution",)),
        InfidelityCheck(draws=3, explainers=("gradient",)),
        RandomizationCheck(stages=2, explainers=("input_x_gradient",)),
        EddaCheck(keep=(0.15,), explainers=("gradient", "saliency")),
    )
    chosen: dict[str, object] = {"target": "top", "top_n": targets} if targets > 1 else {}
    plan = AuditPlan.model_validate({"seed": 5, "explainers": explainers, "checks": checks} | chosen)
    encoded = digits.encoded(3)
    measured = run(digit_classifier, plan, encoded, "measure", ())
    facts = facts_of(digit_classifier, plan, measured, one_target=targets == 1)
    rows = 3 * targets
    assert made(measured) == asked(passes_needed(plan, wave="measure", images=3, rows=rows, facts=facts))
    computed = run(digit_classifier, plan, encoded, "compute", (measured,))
    assert made(computed) == asked(passes_needed(plan, wave="compute", images=3, rows=rows, facts=facts))
    listed = {
        check.label: {m.explainer for m in computed.measurements if m.check == check.label} - {None} for check in checks
    }
    assert listed == {
        # the random control runs in any case, but where a check has none
        check.label: {*(check.explainers or ()), *(() if check.kind == "deletion" else ("random",))}
        for check in checks
    }


def test_a_filter_changes_no_number(digit_classifier: Classifier) -> None:
    few = SweepCheck(augmentations=(Rotate(interval=(-10, 20)),), levels=3, explainers=("gradient", "smoothgrad"))
    every = few.model_copy(update={"explainers": None})
    explainers = (Gradient(), Deconvolution(), SmoothGrad(samples=2), GradCam())
    found = []
    for check in (few, every):
        plan = AuditPlan(seed=5, explainers=explainers, checks=(check,))
        computed = run(digit_classifier, plan, digits.encoded(3), "compute", ())
        found.append({(m.explainer, m.metric, m.variant): m for m in computed.measurements})
    assert set(found[0]) < set(found[1])
    assert {key[0] for key in set(found[1]) - set(found[0])} == {"deconvolution", "grad_cam"}
    for key, one in found[0].items():
        assert one.values == pytest.approx(found[1][key].values, rel=1e-4, abs=1e-6)
        assert one.control == found[1][key].control


@pytest.mark.parametrize("game", get_args(Game))
def test_games_need_the_passes_of_the_formula(digit_classifier: Classifier, game: Game) -> None:
    plan = AuditPlan(
        target="label",
        explainers=(InputXGradient(),),
        checks=(InsertionDeletionCheck(games=(game,), pixels_per_step=300),),
    )
    computed = run(digit_classifier, plan, digits.encoded(3, labeled=True), "compute", ())
    needed = passes_needed(plan, wave="compute", images=3, facts=facts_of(digit_classifier, plan, computed))
    assert made(computed) == asked(needed)


RANKING_CHECKS: tuple[Check, ...] = (
    DeletionCheck(grid=3, repeats=2, rank_by="both"),
    EddaCheck(keep=(0.15, 0.5), rank_by="both"),
    PixelFlippingCheck(pixels_per_step=70, rank_by="both"),
    InsertionDeletionCheck(pixels_per_step=300, rank_by="both"),
    RoadCheck(shares=(0.2, 0.6), rank_by="both"),
)


def test_both_orders_share_what_no_order_changes(digit_classifier: Classifier) -> None:
    plan = AuditPlan(explainers=(Gradient(), GradCam()), checks=RANKING_CHECKS)
    computed = run(digit_classifier, plan, digits.encoded(4), "compute", ())
    facts = facts_of(digit_classifier, plan, computed)
    needed = asked(passes_needed(plan, wave="compute", images=4, facts=facts))
    assert made(computed) == needed
    once = plan.model_copy(update={"checks": tuple(c.model_copy(update={"rank_by": "auto"}) for c in RANKING_CHECKS)})
    single = asked(passes_needed(once, wave="compute", images=4, facts=facts))
    # random orders and blurred images are passed once
    assert needed["deletion"][0] - single["deletion"][0] == 4 * 2 * 2 * (3 * 3 - 1)
    assert needed["deletion"][0] < 2 * single["deletion"][0]
    assert needed["insertion_deletion"][0] == 2 * single["insertion_deletion"][0] - 4
    assert needed["originals"] == single["originals"]


def test_several_targets_are_rows_of_one_prediction(digit_classifier: Classifier) -> None:
    plan = AuditPlan(
        target="top", top_n=3, explainers=(Gradient(), Occlusion(window=16)), checks=(EddaCheck(keep=(0.3,)),)
    )
    computed = run(digit_classifier, plan, digits.encoded(4), "compute", ())
    facts = replace(facts_of(digit_classifier, plan, computed), one_target=False)
    assert made(computed) == asked(passes_needed(plan, wave="compute", images=4, rows=12, facts=facts))


def test_images_left_out_after_prediction_cost_their_prediction(digit_classifier: Classifier) -> None:
    plan = AuditPlan(
        only_correct=True, explainers=(Gradient(), SmoothGrad(samples=2)), checks=(EddaCheck(keep=(0.3,)),)
    )
    encoded = digits.encoded(60, labeled=True)
    computed = run(digit_classifier, plan, encoded, "compute", ())
    used = sum(record.reason is None for record in computed.images)
    assert 0 < used < 60
    facts = facts_of(digit_classifier, plan, computed)
    assert made(computed) == asked(passes_needed(plan, wave="compute", images=60, rows=used, facts=facts))
