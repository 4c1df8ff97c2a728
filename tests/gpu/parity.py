"""Every explainer and every check on a device, compared with the CPU.

On the digits network: a plan for each explainer and each check, with both waves. On the demo's network, which is large
enough for a device to choose other algorithms: maps of two photos by every explainer. All as the engine runs them by
default, which must be float32 without TF32 whatever torch is set to. What faster precisions change is listed, not
judged.
"""

from __future__ import annotations

import functools
import time
import traceback
from collections.abc import Callable, Iterator

import torch
from pydantic import ValidationError

from auditcore.contracts.access import Limits
from auditcore.contracts.checks import (
    Check,
    ComplexityCheck,
    DeletionCheck,
    EddaCheck,
    InfidelityCheck,
    InsertionDeletionCheck,
    SensitivityCheck,
    SweepCheck,
)
from auditcore.contracts.explainers import Explainer, Occlusion
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult
from auditcore.contracts.speed import Speed
from auditcore.costs.estimate import waves_of
from auditcore.devices.arithmetic import arithmetic
from auditcore.engine.shared import reduce_shared
from auditcore.explainers.registry import applicability, explain
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from benchmarks import subjects
from gpu import samples
from gpu.comparison import Row, compare_audits, compare_maps, failures, largest_deviations
from gpu.context import Context
from gpu.tolerances import PHOTO_MAPS

CPU = torch.device("cpu")
PHOTOS = 2
DEMO_EXPLAINERS: tuple[Explainer, ...] = tuple(
    # 36 windows an image, where the default is 169
    Occlusion(window=64, stride=32) if isinstance(explainer, Occlusion) else explainer
    for explainer in samples.EXPLAINERS
)
PRECISIONS = ("tf32", "bf16")
PRECISION_CHECKS: tuple[Check, ...] = (
    SweepCheck(augmentations=samples.plan_of(samples.EXPLAINERS[0]).checks[0].augmentations, levels=4),
    DeletionCheck(grid=7, repeats=2),
    EddaCheck(),
    InsertionDeletionCheck(games=("deletion_zero",), pixels_per_step=2048),
    SensitivityCheck(draws=2),
    InfidelityCheck(draws=4),
    ComplexityCheck(),
)


LARGE_BATCH = 64
"""For what is listed and not judged: small batches took a minute for each precision."""


def run(context: Context) -> dict[str, object]:
    """Compare everything that there is time for."""
    until = time.monotonic() + context.seconds
    rows: list[Row] = []
    broken: list[str] = []
    for subject, compare in comparisons(context.device):
        if not context.wants(subject):
            continue
        if time.monotonic() > until:
            broken.append(f"{subject}: not compared, no time was left")
            continue
        try:
            found = compare()
        except Exception as error:  # noqa: BLE001 - the next comparison can still tell something
            context.say(traceback.format_exc())
            broken.append(f"{subject}: {type(error).__name__}: {error}")
            continue
        rows += found
        wrong = failures(found)
        context.say(f"{subject}: {'ok' if not wrong else 'DIFFERS'}, {len(found)} rows")
        for line in wrong:
            context.say(f"  {line}")
    faster: dict[str, object] = {}
    for precision in () if context.only else PRECISIONS:
        if time.monotonic() > until:
            faster[precision] = "no time was left"
            continue
        faster[precision] = deviations(precision, context.device, tiny=context.tiny)
        context.say(f"{precision}: {faster[precision]}")
    return {
        "compared": len(rows),
        "failures": [*failures(rows), *broken],
        "faster_precisions": faster,
        "rows": [row.as_json() for row in rows],
    }


def comparisons(device: torch.device) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Every comparison by its name."""
    for explainer in samples.EXPLAINERS:
        yield f"explainer {explainer.label}", functools.partial(compare_explainer, explainer, device)
    for check in samples.CHECKS:
        yield f"check {check.label}", functools.partial(compare_check, check, device)
    for explainer in DEMO_EXPLAINERS:
        yield f"maps {explainer.label}", functools.partial(compare_demo_maps, explainer, device)


def compare_explainer(explainer: Explainer, device: torch.device) -> list[Row]:
    """On a network of digits that suits it: an explainer's maps, and a sweep and a deletion of it."""
    subject, plan = f"explainer {explainer.label}", samples.plan_of(explainer)
    exact, other = samples.on(CPU, plan), samples.on(device, plan)
    expected, actual = (maps_of(explainer, each, samples.digit_images()) for each in (exact, other))
    return [
        compare_maps(subject, explainer, expected, actual),
        *compare_plan(subject, plan, exact, other),
    ]


def compare_check(check: Check, device: torch.device) -> list[Row]:
    """A check on a few explainers, on the digits network."""
    return compare_plan(f"check {check.label}", samples.plan_for(check), samples.on(CPU), samples.on(device))


def compare_plan(subject: str, plan: AuditPlan, exact: Classifier, other: Classifier) -> list[Row]:
    """One plan with two classifiers.

    Raises:
        RuntimeError: An explainer could not run, so nothing was compared.
    """
    images = samples.digit_images()
    expected, actual = (samples.audit(classifier, plan, images) for classifier in (exact, other))
    unable = expected[-1].not_applicable or actual[-1].not_applicable
    if unable:
        message = f"not everything ran: {unable}"
        raise RuntimeError(message)
    return compare_audits(subject, plan, expected, actual)


def compare_demo_maps(explainer: Explainer, device: torch.device) -> list[Row]:
    """Maps of two photos by the demo's network, where the explainer is applicable to it."""
    if applicability(demo("cpu"), explainer) is not None:
        return []
    expected, actual = (maps_of(explainer, demo(name), photos()) for name in ("cpu", str(device)))
    return [compare_maps(f"maps {explainer.label}", explainer, expected, actual, PHOTO_MAPS)]


def maps_of(explainer: Explainer, classifier: Classifier, images: tuple[EncodedImage, ...]) -> torch.Tensor:
    """Maps of the predicted classes; what an explainer measures over a whole audit is measured over these images."""
    plan = AuditPlan(seed=samples.SEED, explainers=(explainer,), checks=(ComplexityCheck(),))
    measured: tuple[ShardResult, ...] = ()
    if len(waves_of(plan)) > 1:
        measured = samples.audit(classifier, plan, images)
    pixels = decode_batch(images, classifier.preprocessing, Limits()).pixels.to(classifier.device)
    streams = Streams(samples.SEED, tuple(image.digest for image in images)).viewing(["original"] * len(images))
    with arithmetic(Speed(), classifier.device):
        targets = classifier.logits(pixels).argmax(dim=1)
    return explain(
        classifier,
        explainer,
        pixels,
        targets,
        streams,
        micro_batch=samples.MICRO_BATCH,
        shared=reduce_shared(plan, measured),
    ).maps.cpu()


def deviations(precision: str, device: torch.device, *, tiny: bool) -> dict[str, float] | str:
    """What a faster precision changes on a device: check and metric -> largest |difference| of a value.

    Args:
        precision: A value of `Speed.precision`.
        device: Where both are measured.
        tiny: Digits instead of photos.

    Returns:
        The differences, or why there are none.
    """
    try:
        speed = Speed.model_validate({"precision": precision})
    except ValidationError:
        return "this engine does not know it"
    plan = AuditPlan(seed=samples.SEED, explainers=samples.JUDGED, checks=PRECISION_CHECKS)
    classifier = samples.on(device) if tiny else demo(str(device))
    images = samples.digit_images() if tiny else photos()
    exact, fast = (
        samples.audit(classifier, plan.model_copy(update={"speed": each}), images, micro_batch=LARGE_BATCH)[-1]
        for each in (Speed(), speed)
    )
    return largest_deviations(exact, fast)


@functools.cache
def demo(device: str) -> Classifier:
    """The demo's network on a device."""
    return subjects.load("demo", device)


@functools.cache
def photos() -> tuple[EncodedImage, ...]:
    """Two of the demo's photos."""
    return tuple(subjects.photos(PHOTOS))
