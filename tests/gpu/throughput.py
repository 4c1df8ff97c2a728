"""What share of the best possible speed of the model an audit reaches, compiled, in TF32 and in bf16.

Engine efficiency here is stricter than in `make bench`: the ideal is the fastest pass of the bare model that we know
how to make, a folded, compiled one replayed as a CUDA graph. Goal: 0.85.

Compiling takes longer than all the rest. A model and precision for which there is no time to compile is measured with
graphs of kernels that are not compiled, on both sides; what is said of it is `mode`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from auditcore.contracts.explainers import Gradient
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.speed import Speed
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import ours
from benchmarks.cases import Case, cases
from benchmarks.ideal import Rates, engine_efficiency
from benchmarks.raw import KINDS
from benchmarks.rows import images_for
from gpu.bare_speed import BATCHES, BareSpeed, Speeds
from gpu.context import Context
from gpu.decoding import decoding_seconds
from gpu.models import load
from gpu.photos import photos
from gpu.precisions import Precision, engine_speed, fast_arithmetic
from gpu.time_spent import TimeSpent, time_spent

GOAL = 0.85
CHECKS = ("sweep", "deletion", "edda", "pixel_flipping")
COMBINATIONS: tuple[tuple[str, Precision], ...] = (
    ("resnet50", "tf32"),
    ("resnet50", "bf16"),
    ("demo", "tf32"),
    ("demo", "bf16"),
)
"""The most wanted first, should time run out."""

ROW_S, TINY_ROW_S = 2.5, 0.4
"""Longest ideal time of a row; the number of images is a power of two, so the half of it at least."""

BARE_S = 8.0
"""For what the bare model does without compiling."""

MOST_IMAGES, TINY_IMAGES = 512, 4
WARM_IMAGES = 64
"""Photos of the run that compiles and captures: enough that every size of pass of the timed run occurs in it."""

AUDIT_IMAGES = 100_000
"""Of which the photos are said to be a sample, so that the engine compiles: what is measured is a long audit."""

PROFILED_IMAGES = 256
"""Photos of the run under a profiler, which takes longer and is not the one that counts."""

WARM_S = 1.0
"""Longest warm run, apart from what it compiles."""

DECODED = 128
"""Photos on which decoding is timed."""


Mode = Literal["compiled", "graphs", "skipped"]
"""Whether bare model and engine are both compiled, or both only captured as graphs, or there is no time left."""

ENGINE_COMPILES = 1
"""Compilations that the engine adds: most of its own come out of the cache that the bare model has filled."""


@dataclass
class Allowance:
    """Time that is left, and what a compilation has cost until now.

    Attributes:
        until: When everything must be done, on the performance counter.
        compile_s: Of one kind of pass; a guess until one was compiled.
    """

    until: float
    compile_s: float = 11.0

    @property
    def left_s(self) -> float:
        return self.until - time.perf_counter()

    def mode(self, *, first: bool) -> Mode:
        """What a combination may do; the first one is compiled whatever it takes."""
        return mode_for(self.left_s, self.compile_s, first=first)


def mode_for(left_s: float, compile_s: float, *, first: bool) -> Mode:
    """How much of a combination fits the time that is left.

    Args:
        left_s: Seconds for it and all that follow.
        compile_s: Of one kind of pass.
        first: Whether nothing was measured yet.
    """
    uncompiled_s = BARE_S + len(CHECKS) * (ROW_S + WARM_S)
    if first or left_s > uncompiled_s + (len(KINDS) + ENGINE_COMPILES) * compile_s:
        return "compiled"
    return "graphs" if left_s > uncompiled_s else "skipped"


def run(context: Context) -> dict[str, object]:
    """The bare model's best speeds and the engine's rows, for each model and precision that the time allows."""
    allowance = Allowance(time.perf_counter() + context.seconds)
    pictures = photos(TINY_IMAGES if context.tiny else MOST_IMAGES)
    found: list[dict[str, object]] = []
    skipped: list[str] = []
    combinations = (COMBINATIONS[0], COMBINATIONS[-1]) if context.tiny else COMBINATIONS
    for model, precision in combinations:
        if not context.wants(f"{model} {precision}"):
            continue
        mode: Mode = "compiled" if context.tiny else allowance.mode(first=not found)
        if mode == "skipped":
            skipped.append(f"{model} {precision}")
            context.say(f"{model} {precision}: skipped, {allowance.left_s:.0f} s left")
            continue
        found.append(_combination(context, model, precision, mode, pictures, allowance))
        _give_back(context.device)
    rows = [row for combination in found for row in combination["rows"]]  # type: ignore[attr-defined]
    return {
        "goal": GOAL,
        "combinations": found,
        "skipped": skipped,
        "least_efficiency": min((row["engine_efficiency"] for row in rows), default=None),
    }


def _combination(
    context: Context,
    model: str,
    precision: Precision,
    mode: Mode,
    pictures: list[EncodedImage],
    allowance: Allowance,
) -> dict[str, object]:
    """One model in one precision."""
    name = f"{model} {precision}"
    started = time.perf_counter()
    classifier = load(model, context)
    batches = (2, 4) if context.tiny else BATCHES
    backend = "aot_eager" if context.tiny else "inductor"
    bare = BareSpeed(classifier, precision, batches=batches, backend=backend, measure_s=0.02 if context.tiny else 0.15)
    speeds: list[Speeds] = []
    for kind in KINDS:
        with fast_arithmetic(precision):
            speeds.append(bare.measure(kind, compiled=mode == "compiled"))
        allowance.compile_s = speeds[-1].compile_seconds or allowance.compile_s
        ways = ", ".join(f"{way} {speed:.0f}" for way, speed in speeds[-1].found.items())
        took = (
            "not compiled" if speeds[-1].compile_seconds is None else f"compiled in {speeds[-1].compile_seconds:.0f} s"
        )
        context.say(f"{name} {kind}, batch {speeds[-1].batch}, images per second: {ways}; {took}")
        for way, failure in speeds[-1].failures.items():
            context.say(f"{name} {kind}, {way}: {failure}")
    # the copies of the model and what they passed; the engine asks how much memory is free
    del bare
    _give_back(context.device)
    rates = Rates(*(each.best for each in speeds))
    found: dict[str, object] = {
        "model": model,
        "precision": precision,
        "mode": mode,
        "rates": asdict(rates),
        "bare": [each.record() for each in speeds],
    }
    rows: list[dict[str, object]] = []
    for row in _rows(context, classifier, name, precision, mode, rates, pictures):
        rows.append(row)
        context.keep({name: found | {"rows": rows}})
    return found | {"rows": rows, "seconds": time.perf_counter() - started}


def _give_back(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _rows(
    context: Context,
    classifier: Classifier,
    name: str,
    precision: Precision,
    mode: Mode,
    rates: Rates,
    pictures: list[EncodedImage],
) -> Iterator[dict[str, object]]:
    """The engine, check by check: a run that compiles and captures, then one that counts, which is told at once."""
    decode_s = decoding_seconds(classifier, pictures[:DECODED])
    chosen = [case for case in cases() if case.check in CHECKS and case.explainer == Gradient().label]
    with engine_speed(precision, compiled=mode == "compiled" and not context.tiny) as speed:
        for case in chosen:
            row, spent = _row(context, classifier, case, speed, rates, pictures, decode_s)
            context.say(_line(f"{name} ({mode})", row))
            for line in () if spent is None else spent.lines():
                context.say(line)
            yield row


def _row(
    context: Context,
    classifier: Classifier,
    case: Case,
    speed: Speed,
    rates: Rates,
    pictures: list[EncodedImage],
    decode_s: float,
) -> tuple[dict[str, object], TimeSpent | None]:
    plan = case.plan.model_copy(update={"speed": speed})
    row_s = TINY_ROW_S if context.tiny else ROW_S
    images = images_for(plan, rates, row_s, most=len(pictures))
    warm = images_for(plan, rates, WARM_S, most=min(images, WARM_IMAGES))
    warming = ours.run(classifier, plan, pictures[:warm], audit_images=AUDIT_IMAGES)
    run = ours.run(classifier, plan, pictures[:images], audit_images=AUDIT_IMAGES)
    calibration = classifier.at_speed(speed).calibration
    spent = _spent(context, classifier, plan, pictures[: min(images, PROFILED_IMAGES)])
    share, efficiency = decode_s * images / run.seconds, engine_efficiency(run.made, rates, run.seconds)
    row = {
        "spent": None if spent is None else spent.record(),
        "check": case.check,
        "explainer": case.explainer,
        "settings": case.settings,
        "images": images,
        "seconds": run.seconds,
        "made": asdict(run.made),
        "passes_per_second": run.made.forward / run.seconds,
        "warm_images": warm,
        "warm_seconds": warming.seconds,
        "peak_memory_bytes": run.peak.highest_bytes,
        "micro_batch": None if calibration is None else calibration.micro_batch,
        "calibration": None if calibration is None else calibration.model_dump(mode="json"),
        "decoding_share": share,
        "engine_efficiency": efficiency,
        # how it would be if decoding cost nothing
        "engine_efficiency_without_decoding": efficiency / (1 - share) if share < 1 else None,
        "reached": efficiency >= GOAL,
        "compilation_failure": classifier.at_speed(speed).compilation_failure,
        "way": None if calibration is None else calibration.way,
    }
    return row, spent


def _spent(
    context: Context, classifier: Classifier, plan: AuditPlan, pictures: Sequence[EncodedImage]
) -> TimeSpent | None:
    """Where the time of an audit goes; None if nobody asks, and without CUDA."""
    if context.device.type != "cuda" or not context.profile:
        return None
    return time_spent(lambda: ours.run(classifier, plan, pictures, audit_images=AUDIT_IMAGES))


def _line(name: str, row: dict[str, object]) -> str:
    return (
        f"{name} {row['check']}: efficiency {row['engine_efficiency']:.3f} (goal {GOAL}), "
        f"{row['images']} images in {row['seconds']:.2f} s, {row['passes_per_second']:.0f} forward passes per second, "
        f"micro-batch {row['micro_batch']}, passes {row['way']}, {row['peak_memory_bytes']:,} bytes, "
        f"decoding {row['decoding_share']:.0%} if not overlapped; warm run {row['warm_seconds']:.1f} s"
    )
