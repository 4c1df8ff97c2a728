"""The protocol of Tetkova & Hansen 2023 at paper scale: 500 images, 8 methods, 6 augmentations x 11 levels, resnet50.

Nobody runs it whole to learn how long it takes. On a GPU a sample is audited and scaled by images; without one the time
is put together from passes counted and speeds given. Both are projections and say so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.presets import tetkova2023_plan
from auditcore.costs.estimate import waves_of
from auditcore.costs.passes import ModelFacts, passes_needed
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import ours
from benchmarks.ideal import Passes, Rates, ideal_seconds

IMAGES, SIDE_PX = 500, 224
RECTIFIER_RULES = ("deconvolution", "guided_backpropagation")
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


@dataclass(frozen=True)
class Parts:
    """Passes of one image, by what they run on.

    Attributes:
        plain: Through the plain model, in the precision of the plan.
        exact: Of methods that replace the rules of layers, in float32 whatever the plan says.
        relevance: Backward passes among `exact` that propagate relevance.
    """

    plain: Passes
    exact: Passes
    relevance: int

    @property
    def all(self) -> Passes:
        return self.plain + self.exact


def projected_seconds(
    an_image: Parts,
    rates: Rates,
    *,
    relevance_cost: float,
    efficiency: float,
    faster: Rates | None = None,
    images: int = IMAGES,
) -> float:
    """Seconds of the protocol from its parts.

    Args:
        an_image: Passes of one image.
        rates: Speed of the bare model on the card, in float32.
        relevance_cost: Cost of a pass of relevance, relative to a plain gradient.
        efficiency: Share of its time that the engine spends in the model, in (0,1].
        faster: Speed in the precision in which the plain model runs; that of float32 if None.
        images: How many.

    Raises:
        ValueError: A share or a cost makes no sense.
    """
    if not 0 < efficiency <= 1 or relevance_cost <= 0 or not 0 <= an_image.relevance <= an_image.exact.backward:
        msg = (
            f"efficiency must be in (0, 1], relevance_cost above 0, relevance at most {an_image.exact.backward}; "
            f"got {efficiency}, {relevance_cost}, {an_image.relevance}"
        )
        raise ValueError(msg)
    plain = ideal_seconds(an_image.plain, faster or rates)
    exact = ideal_seconds(an_image.exact, rates) + (relevance_cost - 1) * an_image.relevance / rates.gradient
    return images * (plain + exact) / efficiency


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
        "precision": "fp32",
        "images": IMAGES,
        "sample": used,
        "sample_seconds": run.seconds,
        "sample_passes": asdict(run.made),
        "seconds": scaled(run.seconds, used),
    }


def projected_for(
    rates: Rates,
    *,
    relevance_cost: float,
    efficiency: float,
    faster: Rates | None = None,
) -> dict[str, object]:
    """The protocol on a card of which only the speed is known; `faster` is its speed in bf16, where that is asked."""
    counted = passes_an_image()
    return {
        "projection": True,
        "basis": "passes of the plan at the speed given for the card; nothing was measured on it",
        "precision": "fp32" if faster is None else "bf16, methods that replace the rules of layers fp32",
        "images": IMAGES,
        "passes_an_image": asdict(counted),
        "card": asdict(rates),
        "card_in_bf16": None if faster is None else asdict(faster),
        "relevance_cost": relevance_cost,
        "efficiency": efficiency,
        "seconds": projected_seconds(
            counted, rates, relevance_cost=relevance_cost, efficiency=efficiency, faster=faster
        ),
    }


def passes_an_image() -> Parts:
    """Passes of one image, by the closed formula that the tests hold the engine to."""

    def needed(explainers: Iterable[Explainer]) -> Passes:
        chosen = plan().model_copy(update={"explainers": tuple(explainers)})
        facts = ModelFacts(shape=InputShape(3, SIDE_PX, SIDE_PX))
        waves = (passes_needed(chosen, wave=wave, images=1, facts=facts) for wave in waves_of(chosen))
        found = total(passes for wave in waves for passes in wave.values())
        return Passes(found.forward, found.backward)

    everything = needed(plan().explainers)
    relevance = [explainer for explainer in plan().explainers if explainer.kind.startswith("lrp")]
    exact = [explainer for explainer in plan().explainers if explainer.kind in RECTIFIER_RULES] + relevance
    # curves of these methods' maps pass through the plain model, so that only what comes back is theirs
    back = everything.backward - needed(explainer for explainer in plan().explainers if explainer not in exact).backward
    of_relevance = needed(explainer for explainer in plan().explainers if explainer not in relevance).backward
    return Parts(everything - Passes(back, back), Passes(back, back), everything.backward - of_relevance)
