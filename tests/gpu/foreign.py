"""The same work on the same card by Quantus, and by a plain loop around captum: one image, one change at a time.

Both run resnet50 in float32 without TF32, as the engine does in exact plans. Few images; ratios are per image.
"""

from __future__ import annotations

import importlib
import time
import warnings

from auditcore.contracts.access import Limits
from auditcore.contracts.explainers import Gradient
from auditcore.contracts.speed import Speed
from auditcore.devices.arithmetic import arithmetic
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import ours
from benchmarks.cases import Case, cases
from benchmarks.raw import FORMATS, bare
from gpu.context import Context
from gpu.models import load
from gpu.photos import photos

CHECKS = ("sweep", "deletion", "edda", "pixel_flipping")
OUR_IMAGES, TINY_IMAGES = 16, 1
QUANTUS_IMAGES = 4
TINY_SIDE_PX = 84
"""Quantus takes a step only if it divides the number of values."""

NAIVE_SHARE = 0.5
"""Of the time, for the loop around captum."""


def run(context: Context) -> dict[str, object]:
    """Quantus first, then the loop, each as far as its packages are installed."""
    until = time.perf_counter() + context.seconds
    classifier = load("resnet50", context, tiny_side_px=TINY_SIDE_PX)
    with arithmetic(Speed(), context.device), warnings.catch_warnings():
        # captum announces each of its hooks
        warnings.simplefilter("ignore")
        quantus = _quantus(context, classifier)
        loop = _loop(context, classifier, max(1.0, NAIVE_SHARE * (until - time.perf_counter())))
    return {"quantus": quantus, "captum_loop": loop}


def _quantus(context: Context, classifier: Classifier) -> object:
    try:
        foreign = importlib.import_module("benchmarks.foreign")
    except ImportError as error:
        context.say(f"foreign: not installed: {error.name}")
        return f"not installed: {error.name}"
    pictures = photos(TINY_IMAGES if context.tiny else QUANTUS_IMAGES)
    ours.warm_up(classifier, [Gradient()], pictures)
    rows = foreign.compare(classifier, bare(classifier.module, "channels_last"), pictures)
    for row in rows:
        context.say(
            f"foreign {row['check']}: Quantus {row['quantus_seconds_per_image']:.3f} s a photo, "
            f"ours {row['our_seconds_per_image']:.3f}, {row['speedup_over_quantus']:.1f} times"
        )
    return rows


def _loop(context: Context, classifier: Classifier, limit_s: float) -> object:
    try:
        naive = importlib.import_module("benchmarks.naive")
    except ImportError as error:
        context.say(f"foreign: not installed: {error.name}")
        return f"not installed: {error.name}"
    pictures = photos(TINY_IMAGES if context.tiny else OUR_IMAGES)
    (pixels,) = decode_batch(pictures[:1], classifier.preprocessing, Limits()).pixels
    # a single image is explained fastest without a change of layout
    module = bare(classifier.module, "contiguous")
    paper = naive.Paper(classifier, module, FORMATS["contiguous"], pixels)
    paper.attribution(Gradient(), paper.tensor(paper.image))
    chosen = [case for case in cases() if case.check in CHECKS and case.explainer == Gradient().label]
    rows: list[dict[str, object]] = []
    for case in chosen:
        scores = naive.scores_of(case.plan, paper)
        for score in scores:
            score.advance(limit_s / len(chosen) / len(scores))
        rows.append(_loop_row(classifier, case, sum(score.seconds for score in scores), pictures))
        context.say(
            f"foreign {case.check}: loop around captum {rows[-1]['loop_seconds_per_image']:.3f} s a photo, "
            f"ours {rows[-1]['our_seconds_per_image']:.3f}, {rows[-1]['speedup']:.1f} times"
        )
    return rows


def _loop_row(classifier: Classifier, case: Case, loop_s: float, pictures: list[EncodedImage]) -> dict[str, object]:
    run_ = ours.run(classifier, case.plan, pictures)
    our_s = run_.seconds / len(pictures)
    return {
        "check": case.check,
        "explainer": case.explainer,
        "images": len(pictures),
        "loop_seconds_per_image": loop_s,
        "our_seconds_per_image": our_s,
        "speedup": loop_s / our_s,
        "settings": case.settings,
    }
