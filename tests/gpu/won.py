"""The protocol of Won et al. 2025 for one model at 2000 images, in TF32, compiled: a figure without a goal.

Deletion with 14 x 14 cells and 5 random orders, for five methods. Localization needs boxes, which our photos have not.
"""

from __future__ import annotations

import time

from auditcore.contracts.checks import DeletionCheck
from auditcore.contracts.explainers import (
    GradCam,
    GuidedBackpropagation,
    Iba,
    IntegratedGradients,
    SmoothGrad,
)
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.presets import won2023_plan
from auditcore.contracts.speed import Speed
from benchmarks import ours
from gpu.audit_samples import largest_sample, record, whole_of
from gpu.context import Context
from gpu.models import load
from gpu.photos import photos
from gpu.precisions import engine_speed

IMAGES = 2000
SIZES = (4, 8, 16, 32, 64, 128)


def plan_of(speed: Speed, *, tiny: bool) -> AuditPlan:
    """The preset with the five methods of the paper, explaining the predicted class."""
    iba, integrated, smooth = Iba(), IntegratedGradients(), SmoothGrad(samples=50, std=0.15)
    deletion = next(check for check in won2023_plan().checks if isinstance(check, DeletionCheck))
    if tiny:
        iba, integrated, smooth = Iba(steps=1, samples=1), IntegratedGradients(steps=2), SmoothGrad(samples=2)
    return won2023_plan().model_copy(
        update={
            "target": "predicted",
            "only_correct": False,
            "explainers": (GradCam(), iba, smooth, integrated, GuidedBackpropagation()),
            "checks": (deletion.model_copy(update={"grid": 4 if tiny else 14}),),
            "speed": speed,
        }
    )


def run(context: Context) -> dict[str, object]:
    """A warm run of one photo, then the largest sample that fits."""
    started = time.perf_counter()
    most = 2 if context.tiny else SIZES[-1]
    pictures = photos(most)
    classifier = load("resnet50", context)
    with engine_speed("tf32", compiled=not context.tiny) as speed:
        plan = plan_of(speed, tiny=context.tiny)
        warming = ours.run(classifier, plan, pictures[:1], audit_images=IMAGES)
        sample = largest_sample(
            classifier,
            plan,
            lambda count: pictures[:count],
            sizes=(1, 2) if context.tiny else SIZES,
            limit_s=context.seconds - (time.perf_counter() - started),
            audit_images=IMAGES,
        )
        whole = whole_of(sample, IMAGES, str(classifier.device))
    context.say(f"won2023 tf32: {whole.kind}, {IMAGES} images in {whole.seconds / 60:.1f} min, from {whole.basis}")
    return {
        **record(whole, sample),
        "warm_seconds": warming.seconds,
        "explainers": [each.label for each in plan.explainers],
    }
