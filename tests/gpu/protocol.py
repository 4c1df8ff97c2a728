"""The protocol of Tetkova & Hansen 2023 on resnet50 at paper scale: 500 images, in TF32 and in bf16, compiled.

A sample is audited and scaled by images, unless all of them fit the time. Goals: 10 minutes in TF32, 5 in bf16.
"""

from __future__ import annotations

import time
from dataclasses import asdict

from auditcore.contracts.augmentations import Brightness
from auditcore.contracts.checks import SweepCheck
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.speed import Speed
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import ours, protocol
from gpu.audit_samples import Sample, largest_sample, record, whole_of
from gpu.context import Context
from gpu.models import load
from gpu.photos import photos
from gpu.precisions import Precision, engine_speed

GOALS_S: dict[Precision, float] = {"tf32": 600.0, "bf16": 300.0}
SIZES = (32, 64, 128, 256, protocol.IMAGES)
MOST_IMAGES = 128
"""Photos that are made in advance; more are made only if all 500 fit."""

ONE_BY_ONE_IMAGES = 8
ONE_BY_ONE_SHARE = 0.1
"""Of the time of a precision, for sweeps with each explainer by itself."""

TINY_AUGMENTATIONS, TINY_LEVELS = 1, 3


def run(context: Context) -> dict[str, object]:
    """Both precisions; each gets half of the time."""
    until = time.perf_counter() + context.seconds
    pictures = photos(2 if context.tiny else MOST_IMAGES)
    classifier = load("resnet50", context)
    found: dict[str, object] = {}
    wanted = [precision for precision in GOALS_S if context.wants(f"resnet50 {precision}")]
    for number, precision in enumerate(wanted):
        limit_s = (until - time.perf_counter()) / (len(wanted) - number)
        with engine_speed(precision, compiled=not context.tiny) as speed:
            found[precision] = _measured(context, classifier, precision, speed, pictures, limit_s)
            context.keep(found)
    return found


def plan_of(speed: Speed, *, tiny: bool) -> AuditPlan:
    """The preset at a speed; a rehearsal has one augmentation, three levels, short paths of integrated gradients."""
    plan = protocol.plan().model_copy(update={"speed": speed})
    if not tiny:
        return plan
    short = tuple(
        explainer.model_copy(update={"steps": 2}) if explainer.kind == "integrated_gradients" else explainer
        for explainer in plan.explainers
    )
    sweep, *others = plan.checks
    assert isinstance(sweep, SweepCheck)
    small = sweep.model_copy(update={"augmentations": sweep.augmentations[:TINY_AUGMENTATIONS], "levels": TINY_LEVELS})
    return plan.model_copy(update={"explainers": short, "checks": (small, *others)})


def _measured(
    context: Context,
    classifier: Classifier,
    precision: Precision,
    speed: Speed,
    pictures: list[EncodedImage],
    limit_s: float,
) -> dict[str, object]:
    started = time.perf_counter()
    plan = plan_of(speed, tiny=context.tiny)
    warming = ours.run(classifier, plan, pictures[:1], audit_images=protocol.IMAGES)
    context.say(f"protocol {precision}: warm run of 1 image {warming.seconds:.1f} s")
    one_by_one = _one_by_one(context, classifier, precision, plan, pictures, ONE_BY_ONE_SHARE * limit_s)
    sample = largest_sample(
        classifier,
        plan,
        lambda count: pictures[:count] if count <= len(pictures) else photos(count),
        sizes=(1, 2) if context.tiny else SIZES,
        limit_s=limit_s - (time.perf_counter() - started),
        audit_images=protocol.IMAGES,
    )
    whole = whole_of(sample, protocol.IMAGES, str(classifier.device))
    goal_s = GOALS_S[precision]
    context.say(
        f"protocol {precision}: {whole.kind}, {protocol.IMAGES} images in {whole.seconds / 60:.1f} min "
        f"(goal {goal_s / 60:.0f}), from {whole.basis}"
    )
    return {
        **record(whole, sample),
        "goal_seconds": goal_s,
        "reached": whole.seconds <= goal_s,
        "passes_per_second": _rate(sample),
        "warm_seconds": warming.seconds,
        "one_by_one": one_by_one,
        "compilation_failure": classifier.at_speed(speed).compilation_failure,
        "modes": plan.modes,
    }


def _rate(sample: Sample) -> dict[str, float]:
    made = sample.run.made
    return {"forward": made.forward / sample.run.seconds, "backward": made.backward / sample.run.seconds}


def _one_by_one(
    context: Context,
    classifier: Classifier,
    precision: Precision,
    plan: AuditPlan,
    pictures: list[EncodedImage],
    limit_s: float,
) -> list[dict[str, object]]:
    """Seconds a photo of a sweep over one augmentation, with each explainer by itself: which one dominates."""
    started = time.perf_counter()
    sweep = next(check for check in plan.checks if isinstance(check, SweepCheck))
    sweep = sweep.model_copy(update={"augmentations": (Brightness(interval=(-0.3, 0.3)),)})
    chosen = pictures[:ONE_BY_ONE_IMAGES]
    rows: list[dict[str, object]] = []
    for explainer in plan.explainers:
        if time.perf_counter() - started > limit_s:
            context.say(f"protocol {precision}, one by one: {explainer.label} and what follows skipped")
            break
        small = plan.model_copy(update={"explainers": (explainer,), "checks": (sweep,)})
        run = ours.run(classifier, small, chosen, audit_images=protocol.IMAGES)
        rows.append(
            {
                "explainer": explainer.label,
                "images": len(chosen),
                "seconds": run.seconds,
                "made": asdict(run.made),
                "backward_per_second": run.made.backward / run.seconds,
            }
        )
        context.say(
            f"protocol {precision}, one augmentation, {explainer.label}: {run.seconds / len(chosen):.3f} s a photo, "
            f"{rows[-1]['backward_per_second']:.0f} gradients a second"
        )
    return rows
