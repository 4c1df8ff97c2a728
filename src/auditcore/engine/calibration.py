"""How many images to pass through a model at once: a short measurement within the available memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from auditcore.augmentations.registry import warp
from auditcore.contracts.augmentations import Rotate
from auditcore.contracts.shards import Calibration
from auditcore.devices.exhaustion import is_out_of_memory
from auditcore.devices.host_memory import available_bytes
from auditcore.metrics.comparison import MaskedMaps
from auditcore.metrics.map_pairs import compare
from auditcore.metrics.reduction import reduce_channels
from auditcore.models.classifier import Classifier
from auditcore.models.static_passes import Kind, StaticPasses
from auditcore.random_numbers.streams import Streams

PIXELS_A_PASS = {"cpu": 8 * 224 * 224, "cuda": 256 * 224 * 224}
"""Pixels per pass where the search begins. On two cores the demo model computes 44, 45 and 46 gradients a second in
batches of 4, 8 and 16, resnet50 8.8, 9.1 and 9.3; larger ones take more memory and are slower again. On an H200 the
folded resnet50 passes 8312, 9001 and 9322 images per second forward in batches of 64, 128 and 256, and 4185, 4509 and
4696 back, in TF32."""

CLEARLY_FASTER = 1.25
"""How much faster another size must be to be chosen. Scores differ between sizes by rounding, so a report can be
reproduced byte for byte only with the same size; the noise of a busy machine must not decide."""

LARGEST = 512
SEARCH_S = 2.0
"""Longest search after the first size, which is always measured. A model that is too slow for another size in this time
fills the device with few images."""

REPEATS = 3
"""Timings of each size; the fastest counts. Two sizes are timed in turn, so that a busy machine slows down both."""

SETTLED, SETTLE_S = 0.97, 1.0
"""A call counts as faster if it takes less than this share of the best time before it. The measurement of the speed
ends after `REPEATS` calls in a row that are not faster, or after this time."""

MOST_RELEVANT = 1000
"""Positions that the comparison counts, as Tetkova & Hansen 2023 do."""

MEMORY_SHARE = 0.5
"""Share of the free memory that micro-batches may take if no number of bytes is given."""


def starting_size(classifier: Classifier) -> int:
    """Images per pass where the search begins, by device and pixels."""
    pixels = PIXELS_A_PASS.get(classifier.device.type, PIXELS_A_PASS["cpu"])
    return min(LARGEST, max(1, pixels // classifier.shape.pixels))


def calibrate(
    classifier: Classifier,
    *,
    memory_bytes: int | None = None,
    fixed: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Calibration:
    """Try sizes of micro-batches on the model, each with a forward pass and a gradient, and keep the fastest.

    The search begins at `starting_size`, doubles while that is clearly faster, otherwise tries half. It compares the
    time of gradients, which cost most. Its passes show the model no image of the audit and are not in the ledger.

    A black box states how many images it takes at once, and has no gradients; one pass measures its speed.

    Args:
        classifier: The model; the first call of its kernels happens here.
        memory_bytes: Memory for the activations of one micro-batch; half of the free memory if None.
        fixed: A size that is given; then only its speed is measured.
        clock: Seconds, monotonic.

    Returns:
        The size; the images per second at that size, only forward and forward with gradient; and the maps per second
        that a sweep compares.
    """
    if classifier.source is not None:
        return _calibrate_black_box(classifier, classifier.source.images_per_pass, clock)
    budget = free_memory_bytes(classifier.device) * MEMORY_SHARE if memory_bytes is None else memory_bytes
    with classifier.ledger.paused():
        best = fixed or _fastest_size(classifier, budget, clock)
        forward, gradient = (_settled_seconds(pass_, classifier.device, clock) for pass_ in _passes(classifier, best))
    comparison = _settled_seconds(_comparison(classifier, best), classifier.device, clock)
    return Calibration(
        micro_batch=best,
        forward_per_s=round(best / forward, 3),
        gradient_per_s=round(best / gradient, 3),
        comparison_per_s=round(best / comparison, 3),
    )


def _fastest_size(classifier: Classifier, budget: float, clock: Callable[[], float]) -> int:
    """The size with which gradients are fastest, of those that were tried."""
    most = max(1, int(budget // max(1, _bytes_an_image(classifier))))
    first = _first_that_fits(classifier, min(starting_size(classifier), most), clock)
    deadline = clock() + SEARCH_S
    best = first
    for step in (2.0, 0.5):
        best, tried = first, int(first * step)
        while 1 <= tried <= min(most, LARGEST) and _is_faster(classifier, tried, best, deadline, clock):
            best, tried = tried, int(tried * step)
        if best != first:
            break
    return best


def pass_seconds(static: StaticPasses, kind: Kind, device: torch.device, clock: Callable[[], float]) -> float:
    """Time of one recorded pass of a kind, with the copies to its place and back."""
    inputs = torch.zeros_like(static.inputs)
    targets = torch.zeros(len(inputs), dtype=torch.long, device=device)

    def work() -> None:
        if kind == "logits":
            static.logits(inputs)
        else:
            static.gradient(inputs, targets)

    return _settled_seconds(work, device, clock)


def _calibrate_black_box(classifier: Classifier, size: int, clock: Callable[[], float]) -> Calibration:
    with classifier.ledger.paused():
        forward = _seconds(_passes(classifier, size)[0], classifier.device, clock)
    comparison = _settled_seconds(_comparison(classifier, size), classifier.device, clock)
    return Calibration(
        micro_batch=size,
        forward_per_s=round(size / forward, 3),
        gradient_per_s=round(size / forward, 3),
        comparison_per_s=round(size / comparison, 3),
    )


def free_memory_bytes(device: torch.device) -> int:
    """Free memory of a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_bytes()


def _bytes_an_image(classifier: Classifier) -> int:
    """Memory that the gradient of one image keeps from the forward pass, counted exactly, times two.

    The backward pass takes about as much again.
    """
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    image = _images(classifier, 1).requires_grad_()
    weights = {value.untyped_storage().data_ptr() for value in classifier.folded.parameters()}
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        classifier.folded(image)
    return 2 * sum(size for place, size in kept.items() if place not in weights)


def _first_that_fits(classifier: Classifier, size: int, clock: Callable[[], float]) -> int:
    """The size, halved until a gradient does not run out of memory. The first, slow calls happen here."""
    while size > 1 and _gradient_seconds(classifier, size, clock) is None:
        size //= 2
    return size


def _is_faster(classifier: Classifier, tried: int, best: int, deadline: float, clock: Callable[[], float]) -> bool:
    """Whether gradients of `tried` images at once are clearly faster than of `best`; False if the time is too short."""
    once = _gradient_seconds(classifier, best, clock)
    if once is None or clock() + REPEATS * once * (1 + tried / best) > deadline:
        return False
    fastest = {size: float("inf") for size in (best, tried)}
    for _ in range(REPEATS):
        for size in (best, tried):
            seconds = _gradient_seconds(classifier, size, clock)
            if seconds is None:
                return False
            fastest[size] = min(fastest[size], seconds / size)
    return fastest[best] > CLEARLY_FASTER * fastest[tried]


def _gradient_seconds(classifier: Classifier, size: int, clock: Callable[[], float]) -> float | None:
    """Time of one forward and backward pass; None if memory runs out."""
    try:
        return _seconds(_passes(classifier, size)[1], classifier.device, clock)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return None


def _passes(classifier: Classifier, size: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A forward pass, and a forward and backward pass."""
    images = _images(classifier, size)
    targets = torch.zeros(size, dtype=torch.long, device=classifier.device)

    def forward() -> None:
        classifier.score(images)

    def gradient() -> None:
        classifier.gradient(images, targets)

    return forward, gradient


def _comparison(classifier: Classifier, size: int) -> Callable[[], None]:
    """What a sweep does with one explainer's maps of perturbed images and of their originals, apart from passes.

    It includes the random draw of the control, which stands for the work of perturbing the images.
    """
    streams = Streams(0, tuple(str(number) for number in range(size)))
    maps = streams.normal(classifier.shape, "calibration", device=classifier.device)
    angles = torch.full((size,), 10.0)
    most_relevant = min(MOST_RELEVANT, classifier.shape.pixels)

    def work() -> None:
        streams.normal(classifier.shape, "calibration", device=classifier.device)
        before, after = (
            MaskedMaps(reduce_channels(each, "sum").flatten(1)) for each in (warp(Rotate(), maps, angles), maps)
        )
        compare(before, after, most_relevant)

    return work


def _images(classifier: Classifier, count: int) -> Tensor:
    images = torch.zeros(count, *classifier.shape, device=classifier.device)
    return images.contiguous(memory_format=classifier.memory_format)


def _settled_seconds(work: Callable[[], None], device: torch.device, clock: Callable[[], float]) -> float:
    """Time of one call once it no longer falls: the first calls of a size are slower, because they allocate memory."""
    until, best, unchanged = clock() + SETTLE_S, math.inf, 0
    while unchanged < REPEATS and (clock() < until or unchanged == 0):
        seconds = _seconds(work, device, clock)
        unchanged = 0 if seconds < SETTLED * best else unchanged + 1
        best = min(best, seconds)
    return best


def _seconds(work: Callable[[], None], device: torch.device, clock: Callable[[], float]) -> float:
    """Time of one call, with the device's queue drained on both sides."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return max(clock() - started, 1e-9)
