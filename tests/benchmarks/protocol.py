"""The protocol of Tetkova & Hansen 2023 at paper scale: 500 images, 8 methods, 6 families x 11 levels, resnet50.

Nobody runs it whole to learn how long it takes. On a GPU a sample is audited and scaled by images; without one the time
is put together from passes counted and speeds given. Both are projections and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from torch import nn

from auditcore.contracts.models import Preprocessing
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.presets import tetkova2023_plan
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import ours
from benchmarks.ideal import Passes, Rates, ideal_seconds

IMAGES = 500
SAMPLES = (8, 16, 32, 64, 128)
"""Sample sizes, of which the largest that fits the time is used."""


def plan() -> AuditPlan:
    """The preset, explaining the predicted class: the photos have no labels of the data set."""
    return tetkova2023_plan().model_copy(update={"target": "predicted", "only_correct": False})


def scaled(seconds: float, sample: int, images: int = IMAGES) -> float:
    """Seconds of all images, each as costly as one of the sample.

    Raises:
        ValueError: The sample is empty or larger than what it stands for.
    """
    if not 0 < sample <= images:
        msg = f"a sample of {images} images holds between 1 and {images}, got {sample}"
        raise ValueError(msg)
    return seconds / sample * images


def projected_seconds(
    an_image: Passes, relevance: int, rates: Rates, *, relevance_cost: float, efficiency: float, images: int = IMAGES
) -> float:
    """Seconds of the protocol from its parts.

    Args:
        an_image: Passes of one image, those of relevance among them.
        relevance: Forward and backward passes of one image that propagate relevance.
        rates: Speed of the bare model on the card.
        relevance_cost: Cost of such a pass, relative to a plain gradient.
        efficiency: Share of its time that the engine spends in the model, in (0,1].
        images: How many.

    Raises:
        ValueError: A share or a cost makes no sense.
    """
    if not 0 < efficiency <= 1 or relevance_cost <= 0 or not 0 <= relevance <= an_image.backward:
        msg = (
            f"efficiency must be in (0, 1], relevance_cost above 0, relevance at most {an_image.backward}; "
            f"got {efficiency}, {relevance_cost}, {relevance}"
        )
        raise ValueError(msg)
    plain = ideal_seconds(an_image, rates)
    extra = (relevance_cost - 1) * relevance / rates.gradient
    return images * (plain + extra) / efficiency


def measured_on(classifier: Classifier, photos: Sequence[EncodedImage], limit_s: float) -> dict[str, object]:
    """Audit growing samples until the next one would not fit, and scale the largest.

    Args:
        classifier: resnet50 on the device.
        photos: At least as many as the smallest sample.
        limit_s: Seconds for everything.
    """
    run, used, spent = None, 0, 0.0
    for sample in SAMPLES:
        expected = 0.0 if run is None else run.seconds / used * sample
        if sample > len(photos) or spent + expected > limit_s:
            break
        run, used = ours.run(classifier, plan(), photos[:sample]), sample
        spent += run.seconds
    if run is None:
        msg = f"at least {SAMPLES[0]} photos are needed, got {len(photos)}"
        raise ValueError(msg)
    return {
        "projection": True,
        "basis": f"{used} images measured on {classifier.device}, scaled by images",
        "images": IMAGES,
        "sample": used,
        "sample_seconds": run.seconds,
        "sample_passes": asdict(run.made),
        "seconds": scaled(run.seconds, used),
    }


def projected_for(
    rates: Rates, photos: Sequence[EncodedImage], *, relevance_cost: float, efficiency: float
) -> dict[str, object]:
    """The protocol on a card of which only the speed is known."""
    counted, relevance = passes_an_image(photos)
    return {
        "projection": True,
        "basis": "passes of the plan at the speed given for the card; nothing was measured on it",
        "images": IMAGES,
        "passes_an_image": asdict(counted),
        "relevance_passes_an_image": relevance,
        "card": asdict(rates),
        "relevance_cost": relevance_cost,
        "efficiency": efficiency,
        "seconds": projected_seconds(counted, relevance, rates, relevance_cost=relevance_cost, efficiency=efficiency),
    }


def passes_an_image(photos: Sequence[EncodedImage]) -> tuple[Passes, int]:
    """Passes of one image, all and those of LRP: counted on a tiny network, since no model changes their number."""
    classifier = _tiny()
    everything = ours.run(classifier, plan(), photos[:1]).made
    relevance = [explainer for explainer in plan().explainers if explainer.kind.startswith("lrp")]
    others = [explainer for explainer in plan().explainers if explainer not in relevance]
    without = ours.run(classifier, plan().model_copy(update={"explainers": tuple(others)}), photos[:1]).made
    return everything, everything.backward - without.backward


def _tiny() -> Classifier:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 28 * 28, 4)
    )
    return Classifier(network, preprocessing=Preprocessing(resize=32, crop=32), trained=False)
