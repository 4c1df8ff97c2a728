"""One row of `bench.json`: what it holds, how it is measured, and how many images fit the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from auditcore.contracts.access import Limits
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.costs.estimate import passes_of
from auditcore.costs.passes import ModelFacts, passes_needed
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from benchmarks import naive, ours
from benchmarks.cases import Case
from benchmarks.ideal import Passes, Rates, around, drifted, engine_efficiency, ideal_seconds
from benchmarks.raw import FORMATS, RawThroughput

ROW_KEYS = (
    "model",
    "check",
    "explainer",
    "images",
    "engine_efficiency",
    "speedup_over_naive",
    "passes_made",
    "passes_needed",
    "seconds",
    "peak_memory_bytes",
)
"""What every row has, in this order; what else it has explains these."""

NAIVE_SHARE = 0.4
"""Part of a row's time for the papers' way."""


@dataclass(frozen=True)
class Measured:
    """Everything a row is made of.

    Attributes:
        images: Audited by the engine.
        seconds: Wall time of the engine.
        made: Passes the hooks counted.
        needed: Passes the plan needs, by the closed formula.
        naive_seconds: Of one image, the papers' way.
        naive_steps: How much of it was measured, in words.
        rates: Speed of the bare model, as it was loaded, around the row.
        folded: Speed of its folded copy, which the engine runs, around the row.
        micro_batch: Images that the engine passes at once.
        peak_bytes: Highest memory while the engine ran.
        before_bytes: Memory when it began.
    """

    images: int
    seconds: float
    made: Passes
    needed: Passes
    naive_seconds: float
    naive_steps: str
    rates: Rates
    folded: Rates
    micro_batch: int | None
    peak_bytes: int
    before_bytes: int


def row_of(model: str, case: Case, measured: Measured) -> dict[str, object]:
    """The row for the JSON file."""
    seconds_per_image, needed = measured.seconds / measured.images, measured.needed
    return {
        "model": model,
        "check": case.check,
        "explainer": case.explainer,
        "images": measured.images,
        "engine_efficiency": engine_efficiency(measured.made, measured.rates, measured.seconds, case.meaning),
        "speedup_over_naive": measured.naive_seconds / seconds_per_image,
        "passes_made": measured.made.total,
        "passes_needed": needed.total,
        "seconds": measured.seconds,
        "peak_memory_bytes": measured.peak_bytes,
        "seconds_per_image": seconds_per_image,
        "settings": case.settings,
        "forward_made": measured.made.forward,
        "backward_made": measured.made.backward,
        "forward_needed": needed.forward,
        "backward_needed": needed.backward,
        "ideal": case.meaning,
        "ideal_seconds": ideal_seconds(measured.made, measured.rates, case.meaning),
        "efficiency_of_folded_model": engine_efficiency(measured.made, measured.folded, measured.seconds, case.meaning),
        "micro_batch": measured.micro_batch,
        "raw_forward_per_second": measured.rates.forward,
        "raw_gradient_per_second": measured.rates.gradient,
        "naive_seconds_per_image": measured.naive_seconds,
        "naive_steps": measured.naive_steps,
        "memory_before_bytes": measured.before_bytes,
    }


def images_for(plan: AuditPlan, rates: Rates, seconds: float, *, most: int, least: int = 1) -> int:
    """How many images fit some seconds: a power of two, from the expected passes at the bare model's speed."""
    fitting = seconds * rates.forward / passes_of(plan, wave="compute")
    return max(least, min(most, 2 ** math.floor(math.log2(fitting)) if fitting >= 1 else 1))


def needed_passes(plan: AuditPlan, images: int, shape: InputShape) -> Passes:
    """Passes that the compute wave of a plan needs for as many images of a model that every explainer suits."""
    facts = ModelFacts(shape=shape)
    needed = total(passes_needed(plan, wave="compute", images=images, facts=facts).values())
    return Passes(needed.forward, needed.backward)


def warm_up(explainers: Sequence[Explainer], raw: RawThroughput, photo: EncodedImage, paper: naive.Paper) -> None:
    """Make every map once, both ways: first calls compile kernels, trace the model and are slower than all others."""
    ours.warm_up(raw.classifier, explainers, [photo])
    for explainer in explainers:
        paper.attribution(explainer, paper.tensor(paper.image))


def measure(
    case: Case,
    raw: RawThroughput,
    folded: RawThroughput,
    photos: Sequence[EncodedImage],
    paper: naive.Paper,
    budget_s: float,
) -> Measured:
    """One row: bare model, half of the papers' way, the engine, the other half, bare model."""
    classifier = raw.classifier
    images = images_for(case.plan, raw.of_scan(), budget_s * (1 - NAIVE_SHARE), most=len(photos))
    scores = naive.scores_of(case.plan, paper)
    limit_s = budget_s * NAIVE_SHARE / len(scores) / 2
    before = raw.again[-1] if raw.again else raw.now()
    for score in scores:
        score.advance(limit_s)
    run = ours.run(classifier, case.plan, photos[:images])
    for score in scores:
        score.advance(limit_s)
    rates = around(before, raw.now())
    return Measured(
        images=images,
        seconds=run.seconds,
        made=run.made,
        needed=needed_passes(case.plan, images, classifier.shape),
        naive_seconds=sum(score.seconds for score in scores),
        naive_steps=naive_steps(scores),
        rates=rates,
        folded=drifted(folded.of_scan(), raw.of_scan(), rates),
        micro_batch=None if classifier.calibration is None else classifier.calibration.micro_batch,
        peak_bytes=run.peak.highest_bytes,
        before_bytes=run.peak.before_bytes,
    )


def naive_steps(scores: Sequence[naive.Score]) -> str:
    """How much of the papers' way was measured, in words."""
    done, count = sum(score.done for score in scores), sum(score.count for score in scores)
    return f"1 image, {done} of {count} steps" + ("" if done == count else ", scaled by steps")


def paper_of(raw: RawThroughput, photo: EncodedImage) -> naive.Paper:
    """The first photo and the bare model, as a paper's code holds them."""
    classifier = raw.classifier
    memory_format = raw.format_for_single_images()
    (pixels,) = decode_batch([photo], classifier.preprocessing, Limits()).pixels
    return naive.Paper(classifier, raw.module(memory_format), FORMATS[memory_format], pixels)
