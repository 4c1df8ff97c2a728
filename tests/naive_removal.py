"""Pixel flipping, insertion, deletion and ROAD the slow way, in addition to `naive`, and networks that count pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

import digits
import reference
from auditcore.checks.image_group import ImageGroup
from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.checks import Check, InsertionDeletionCheck, PixelFlippingCheck, RoadCheck
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.shards import Measurement, ShardResult
from auditcore.engine.shard import run_shard
from auditcore.engine.shard_task import Runtime, ShardTask
from auditcore.explainers.attribution import MadePasses
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from naive import NaiveAudit

Found = dict[tuple[str, str | None], Measurement]


def run(
    classifier: Classifier,
    check: Check,
    explainers: tuple[Explainer, ...],
    images: Sequence[EncodedImage],
    *,
    micro_batch: int | None = None,
) -> ShardResult:
    """One compute shard of one check, with seed 7."""
    return run_shard(
        ShardTask(plan=AuditPlan(seed=7, explainers=explainers, checks=(check,)), wave="compute", images=images),
        Runtime(classifier, micro_batch=micro_batch, clock=lambda: 0.0),
    )


def found_in(result: ShardResult) -> Found:
    """Measurements by metric and explainer."""
    return {(m.metric, m.explainer): m for m in result.measurements}


def naive(classifier: Classifier, image: EncodedImage) -> NaiveAudit:
    """The same image under the slow audit with the same seed."""
    pixels, _ = digits.digit_pixels()
    quantized = np.round(pixels[image.index].numpy() * 255) / 255
    return NaiveAudit(classifier, quantized.astype(np.float32), 7, image.digest)


def relevance_order(
    slow: NaiveAudit, check: PixelFlippingCheck | InsertionDeletionCheck | RoadCheck, explainer: Explainer
) -> list[int]:
    """Pixels from the most to the least relevant."""
    order = reference.order_of(check.rank_by, explainer.kind)
    reduced = reference.ranking_relevance(slow._map(explainer, slow.pixels, "original"), order, check.reduce)
    ties = slow.streams.uniform((reduced.size,), f"{check.kind}/ties")[0].tolist()
    return reference.ranking(reference.resolved(reduced.ravel().tolist()), ties)


def exchange_curve(
    slow: NaiveAudit, before: np.ndarray, after: np.ndarray, order: Sequence[int], counts: Sequence[int]
) -> list[float]:
    """Target probability after each number of exchanged pixels."""
    return [slow._probability(reference.exchanged(before, after, order[:count])) for count in counts]


UNTOUCHED = 0.9
"""Value of the pixels that `CountingNet` counts."""


class CountingNet(nn.Module):
    """Two classes; the first logit is the share of untouched channel values: a probability tells how many are left.

    Its gradient is that of a term too small to see: the weight of 16 pixels, zero on all others.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        weight = torch.zeros(3, side, side)
        weight[:, :4, :4] = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(2))
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        untouched = ((x - UNTOUCHED).abs() < 1e-6).float().mean(dim=(1, 2, 3))
        first = untouched + 1e-9 * (x * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([first, torch.zeros_like(first)], dim=1)


class ConstantNet(nn.Module):
    """Class scores that no pixel changes: every gradient is zero, every map constant."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([2.0, 0.0]) + 0 * x.mean(dim=(1, 2, 3))[:, None]


def raw(side: int) -> Preprocessing:
    """No normalization: black is 0."""
    return Preprocessing(resize=side, crop=side, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def group_of(
    classifier: Classifier, pixels: Tensor, explainers: tuple[Explainer, ...], targets: Sequence[int] | None = None
) -> ImageGroup:
    """Images that never were files."""
    target = torch.zeros(len(pixels), dtype=torch.long) if targets is None else torch.tensor(targets)
    # an audit knows the logits of its originals
    logits = classifier.logits(pixels)
    return ImageGroup(
        classifier=classifier,
        pixels=pixels,
        indices=tuple(range(len(pixels))),
        targets=target,
        probabilities=classifier.probabilities(logits).gather(1, target[:, None])[:, 0],
        streams=Streams(3, tuple(f"{position:064x}" for position in range(len(pixels)))),
        explainers=explainers,
        tick=lambda: None,
        micro_batches=MicroBatches(16),
        passes=MadePasses(logits=logits),
    )


def untouched_pixels(probability: Sequence[float | None], pixels: int) -> list[float]:
    """How many pixels `CountingNet` saw, from its probabilities."""
    return [pixels * float(np.log(p / (1 - p))) for p in probability if p is not None]
