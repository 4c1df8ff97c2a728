"""KernelSHAP: Shapley values of image segments by weighted least squares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from auditcore.contracts.explainers import KernelShap
from auditcore.counts.coalitions import is_exhaustive
from auditcore.explainers.attribution import Attribution, Batch
from auditcore.explainers.baselines import baseline_pixels
from auditcore.explainers.passes import baseline_logits, copies_logits, target_logits
from auditcore.explainers.superpixels import segment

COALITIONS_A_DRAW = 256
"""Coalitions of one stream, in pairs: enough to fill a micro-batch. Streams do not follow micro-batches."""

_SINGULAR_BELOW = 1e-10
"""Share of the largest eigenvalue below which a direction counts as unseen; float64 leaves 1e-14 of a true zero."""


@dataclass(frozen=True)
class Coalitions:
    """Segments that are present together, and the weight of each choice.

    Attributes:
        present: (coalition, segment).
        weights: Weight in the least squares, for each coalition.
    """

    present: Bool[np.ndarray, "coalition segment"]
    weights: Float[np.ndarray, " coalition"]


def kernel_shap(batch: Batch, contract: KernelShap) -> Attribution:
    """Shapley value of each segment for the target's logit; absent segments show the baseline.

    The values solve the least squares problem that the Shapley kernel weighs, with the sum of all values fixed at
    f(x) - f(baseline). Where an image has so few segments that all coalitions are affordable, they are all
    evaluated and the values are exact. Otherwise coalitions are drawn, each with its complement: their sizes follow
    the kernel, so each counts the same. Segments that no coalition tells apart get equal values (least norm); at least
    twice as many `samples` as segments avoid that. It needs only predictions.

    Returns:
        Maps (N,1,H,W). A pixel's value is its segment's divided by the segment's pixels, so that a map sums to
        f(x) - f(baseline) and large segments do not weigh more than their value.

    Source: Lundberg & Lee 2017, Theorem 2; paired sampling after Covert & Lee 2021, Section 3.2.
    """
    pixels = batch.pixels
    segments = segment(pixels, contract.segments, contract.count, batch.classifier.colors)
    counts = [int(labels.max()) + 1 for labels in segments]
    baseline = baseline_pixels(batch, contract.baseline)
    empty = baseline_logits(batch, contract.baseline, baseline).double()
    whole = target_logits(batch).double()
    largest = max(counts, default=0)
    grams = torch.zeros(len(batch), largest, largest, dtype=torch.float64, device=pixels.device)
    moments = torch.zeros(len(batch), largest, dtype=torch.float64, device=pixels.device)
    for owners, present, weights in _micro_batches(batch, contract, counts):
        shown = present.gather(1, segments[owners].flatten(1)).view(-1, 1, *pixels.shape[2:])
        logits = copies_logits(batch, torch.where(shown, pixels[owners], baseline[owners]), owners)
        members = present.double()
        weighted = members * weights[:, None]
        grams.index_add_(0, owners, weighted[:, :, None] * members[:, None, :])
        moments.index_add_(0, owners, weighted * (logits.double() - empty[owners])[:, None])
    maps = torch.empty_like(pixels[:, 0], dtype=torch.float64)
    # the systems are small; on the CPU the result does not depend on the solver of an accelerator
    for position, count in enumerate(counts):
        gain = (whole - empty)[position].cpu()
        values = solve(grams[position, :count, :count].cpu(), moments[position, :count].cpu(), gain)
        labels = segments[position].flatten()
        per_pixel = values.to(pixels.device) / labels.bincount(minlength=count)
        maps[position] = per_pixel[labels].view(pixels.shape[2:])
    return Attribution(maps[:, None].float())


def solve(
    gram: Float[Tensor, "segment segment"], moment: Float[Tensor, " segment"], gain: Float[Tensor, ""]
) -> Float[Tensor, " segment"]:
    """Weighted least squares with a fixed sum.

    Args:
        gram: Sum over coalitions of weight z z', z the 0/1 vector of present segments, float64.
        moment: Sum over coalitions of weight z (v(z) - v(nothing)), float64.
        gain: v(everything) - v(nothing): the sum of the values.

    Returns:
        Of all minimizers of sum of weight (v(z) - v(nothing) - z'phi)^2 with sum phi = gain, the one nearest to
        equal shares.
    """
    count = len(moment)
    equal = (gain / count).expand(count)
    # the rest of the solution sums to 0
    centering = torch.eye(count, dtype=gram.dtype) - 1 / count
    inverse: Tensor = torch.linalg.pinv(centering @ gram @ centering, rtol=_SINGULAR_BELOW, hermitian=True)
    # centered once more: rounding must not break the sum
    shares = centering @ (inverse @ (centering @ (moment - gram @ equal)))
    return equal + shares


def every_coalition(count: int) -> Coalitions:
    """All coalitions but the empty and the full one, weighed by the Shapley kernel up to a factor."""
    numbers = np.arange(1, 2**count - 1)
    present = (numbers[:, None] >> np.arange(count) & 1).astype(bool)
    sizes = np.arange(1, count)
    coalitions_of_size = np.cumprod((count - sizes + 1) / sizes)
    weights = 1 / (coalitions_of_size * sizes * (count - sizes))
    return Coalitions(present, weights[present.sum(1) - 1])


def drawn_coalitions(generator: np.random.Generator, count: int, pairs: int) -> Coalitions:
    """Coalitions, each followed by its complement; their sizes are distributed as the Shapley kernel."""
    sizes = np.arange(1, count)
    probable = 1 / (sizes * (count - sizes))
    drawn = generator.choice(sizes, size=(pairs, 1), p=probable / probable.sum())
    chosen = generator.random((pairs, count)).argsort(axis=1) < drawn
    present = np.stack((chosen, ~chosen), axis=1).reshape(2 * pairs, count)
    return Coalitions(present, np.ones(2 * pairs))


def _micro_batches(
    batch: Batch, contract: KernelShap, counts: list[int]
) -> Iterator[tuple[Int[Tensor, " coalition"], Bool[Tensor, "coalition segment"], Float[Tensor, " coalition"]]]:
    """Coalitions of all images, in micro-batches that may span images: owner, present segments, weight."""
    largest = max(counts, default=0)
    device = batch.pixels.device
    for draw in range(-(-contract.samples // COALITIONS_A_DRAW)):
        owners: list[int] = []
        rows, weights = [], []
        for position, count in enumerate(counts):
            coalitions = _draw(batch, contract, position, count, draw)
            owners += [position] * len(coalitions.weights)
            rows.append(np.pad(coalitions.present, ((0, 0), (0, largest - count))))
            weights.append(coalitions.weights)
        if not owners:  # all coalitions of all images have been seen
            return
        owner = torch.tensor(owners, device=device)
        present, weight = (torch.from_numpy(np.concatenate(values)).to(device) for values in (rows, weights))
        for start in range(0, len(owner), batch.micro_batch):
            part = slice(start, start + batch.micro_batch)
            yield owner[part], present[part], weight[part]


def _draw(batch: Batch, contract: KernelShap, position: int, count: int, draw: int) -> Coalitions:
    """The next coalitions of one image, at most `COALITIONS_A_DRAW`; none once all have been seen."""
    start = draw * COALITIONS_A_DRAW
    stop = min(start + COALITIONS_A_DRAW, contract.samples)
    if is_exhaustive(count, contract.samples):
        every = every_coalition(count)
        return Coalitions(every.present[start:stop], every.weights[start:stop])
    generator = batch.streams.generator(position, "kernel_shap", draw)
    return drawn_coalitions(generator, count, (stop - start) // 2)
