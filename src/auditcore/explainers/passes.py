"""Many changed copies of each image: their micro-batches, and their logits without gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from auditcore.contracts.explainers.baselines import Baseline
from auditcore.contracts.image_colors import is_image_color
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.attribution import Batch
from auditcore.explainers.shared_pass import color_logits, image_logits


def pairs(
    images: int, repeats: int, micro_batch: int, device: torch.device
) -> Iterator[tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]]:
    """Every (image, repeat), image by image, in micro-batches that may span images.

    Args:
        images: Number of images.
        repeats: Passes for each of them.
        micro_batch: Pairs at once, at most.
        device: Where the positions are needed.
    """
    for image, repeat in host_pairs(images, repeats, micro_batch):
        yield numbers_on(image, device, torch.long), numbers_on(repeat, device, torch.long)


def host_pairs(images: int, repeats: int, micro_batch: int) -> Iterator[tuple[list[int], list[int]]]:
    """The same as `pairs` in lists on the host, for work that also draws random numbers for each pair."""
    for start in range(0, images * repeats, micro_batch):
        numbers = range(start, min(start + micro_batch, images * repeats))
        yield [number // repeats for number in numbers], [number % repeats for number in numbers]


def copies_logits(
    batch: Batch, copies: Float[Tensor, "copy channel height width"], owners: Int[Tensor, " copy"]
) -> Float[Tensor, " copy"]:
    """Logits of the targets of the images that copies come from; one micro-batch, in pixel space."""
    return batch.classifier.logits(copies).gather(1, batch.targets[owners, None])[:, 0]


def target_logits(batch: Batch) -> Float[Tensor, " image"]:
    """Target logits of the images; no new pass if they are known."""
    return image_logits(batch).gather(1, batch.targets[:, None])[:, 0]


def baseline_logits(
    batch: Batch, baseline: Baseline, pixels: Float[Tensor, "image channel height width"]
) -> Float[Tensor, " image"]:
    """Target logits of the images' baselines; one pass for all where the baseline is a color.

    Args:
        batch: Model and targets.
        baseline: Which baseline the pixels show.
        pixels: What `baseline_pixels` made, in pixel space.
    """
    if not len(batch):
        return pixels.new_empty(0)
    if is_image_color(baseline):
        return color_logits(batch, baseline, pixels[:1])[0, batch.targets]
    logits = torch.empty(len(batch), device=pixels.device)
    for images, _ in pairs(len(batch), 1, batch.micro_batch, pixels.device):
        logits[images] = copies_logits(batch, pixels[images], images)
    return logits
