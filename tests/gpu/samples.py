"""One plan for every explainer and every check, small enough to run in a second on the digits network."""

from __future__ import annotations

import copy
import dataclasses
import functools

import torch

import digit_transformer
import digits
from auditcore.contracts.augmentations import (
    Brightness,
    Composition,
    Contrast,
    GaussianBlur,
    GaussianNoise,
    HorizontalFlip,
    Hue,
    JpegQuality,
    Rotate,
    Saturation,
    Scale,
    Translate,
)
from auditcore.contracts.checks import (
    Change,
    Check,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    SsimSweepCheck,
    SweepCheck,
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
from auditcore.contracts.images import Box
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult
from auditcore.costs.estimate import waves_of
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.engine.shared import reduce_shared
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from every_check import and_every_other_check
from every_explainer import with_the_others

SEED = 7
IMAGES = 4
MICRO_BATCH = 5
"""Of no multiple of the images or copies, so that the last micro-batch is a smaller one."""

EXPLAINERS: tuple[Explainer, ...] = with_the_others(
    (
        Gradient(),
        Saliency(),
        InputXGradient(),
        IntegratedGradients(steps=5),
        GradientShap(samples=4),
        SmoothGrad(samples=4),
        NoiseTunnel(method=IntegratedGradients(steps=2, baseline="gaussian"), samples=3),
        DeepLift(),
        GuidedBackpropagation(),
        Deconvolution(),
        GradCam(),
        GuidedGradCam(),
        LrpEpsilonPlusFlat(),
        LrpEpsilonGammaBox(),
        LrpEpsilonAlpha2Beta1Flat(),
        Iba(steps=4, samples=3),
        Occlusion(),
        Ablation(grid=4),
        Rise(masks=24),
        KernelShap(samples=40, count=9),
        Random(),
    )
)
"""Every explainer that computes maps."""

CHECKS: tuple[Check, ...] = and_every_other_check(
    (
        SweepCheck(
            augmentations=(
                # automatic intervals: the first wave
                Brightness(),
                Rotate(),
                Hue(interval=(-60, 60)),
                Saturation(interval=(-0.3, 0.2)),
                Translate(interval=(-0.1, 0.1)),
                Scale(interval=(0.8, 1.2)),
                Contrast(interval=(0.6, 1.5)),
                GaussianNoise(interval=(0, 0.1)),
                GaussianBlur(interval=(0, 1.2)),
                HorizontalFlip(),
                Composition(first=Translate(interval=(-0.1, 0.1)), second=Contrast(interval=(0.6, 1.5))),
            ),
            levels=5,
            top_k=100,
        ),
        # encoded on the host, so a check of its own
        SweepCheck(name="sweep_jpeg", augmentations=(JpegQuality(interval=(20, 100)),), levels=4, top_k=100),
        SsimSweepCheck(
            changes=(
                Change(augmentation=Rotate(), values=(-15, 15)),
                Change(augmentation=Brightness(), values=(0.05, 0.1)),
            )
        ),
        DeletionCheck(grid=8, repeats=3),
        EddaCheck(),
        PixelFlippingCheck(),
        InsertionDeletionCheck(pixels_per_step=32),
        RoadCheck(shares=(0.2, 0.5, 0.8)),
        SensitivityCheck(draws=4),
        # more noise than the default, whose effect on the logit is near its rounding
        InfidelityCheck(draws=4, std=0.05),
        LocalizationCheck(),
        RandomizationCheck(stages=3),
        ComplexityCheck(),
    )
)

JUDGED: tuple[Explainer, ...] = (Gradient(), IntegratedGradients(steps=5), GradCam())
"""What checks are tried with: a method that shares passes, one that does not, and one with wide maps."""


@functools.cache
def digit_classifier(device: str) -> Classifier:
    """The trained digits network on a device; the same weights on all of them."""
    return Classifier(copy.deepcopy(digits.trained()), preprocessing=digits.PREPROCESSING, device=device)


@functools.cache
def transformer_classifier(device: str) -> Classifier:
    """The trained transformer on a device, for explainers that need attention."""
    return digit_transformer.classifier(device)


@functools.cache
def digit_images() -> tuple[EncodedImage, ...]:
    """The first digits, each with a box around its middle."""
    boxes = (Box(x0=8, y0=4, x1=24, y1=28),)
    return tuple(dataclasses.replace(image, boxes=boxes) for image in digits.encoded(IMAGES, labeled=True))


def plan_of(explainer: Explainer) -> AuditPlan:
    """An explainer under the two checks that most audits have: maps of copies, and maps in order of relevance."""
    sweep = SweepCheck(
        augmentations=(Rotate(interval=(-20, 20)), Brightness(interval=(-0.2, 0.2))), levels=4, top_k=100, reduce="sum"
    )
    return AuditPlan(seed=SEED, explainers=(explainer,), checks=(sweep, DeletionCheck(grid=8, repeats=2)))


def plan_for(check: Check) -> AuditPlan:
    """A check on a few explainers."""
    return AuditPlan(seed=SEED, explainers=JUDGED, checks=(check,))


def audit(
    classifier: Classifier, plan: AuditPlan, images: tuple[EncodedImage, ...], *, micro_batch: int = MICRO_BATCH
) -> tuple[ShardResult, ...]:
    """Both waves of a plan, as workers would run them: results of each, the one with the measurements last."""
    results: list[ShardResult] = []
    for wave in waves_of(plan):
        results.append(
            run_shard(
                ShardTask(plan=plan, wave=wave, images=images, shared=reduce_shared(plan, results)),
                Runtime(classifier, micro_batch=micro_batch),
            )
        )
    return tuple(results)


def on(device: torch.device, plan: AuditPlan | None = None) -> Classifier:
    """The digits network on a device; the transformer for plans whose explainers need attention."""
    needs_attention = plan is not None and any("attention" in explainer.needs for explainer in plan.explainers)
    return transformer_classifier(str(device)) if needs_attention else digit_classifier(str(device))
