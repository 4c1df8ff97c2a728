"""The largest sample of an audit that fits a time, and what it says about the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from auditcore.contracts.plan import AuditPlan
from auditcore.images.encoded import EncodedImage
from auditcore.models.classifier import Classifier
from benchmarks import ours
from benchmarks.protocol import scaled


@dataclass(frozen=True)
class Sample:
    """One timed audit of some images."""

    images: int
    run: ours.Run


@dataclass(frozen=True)
class Whole:
    """Seconds of an audit of many images.

    Attributes:
        measured: All images were audited; otherwise the seconds are a projection.
        basis: What was measured, in words.
        images: How many the seconds are for.
        seconds: Of all of them.
    """

    measured: bool
    basis: str
    images: int
    seconds: float

    @property
    def kind(self) -> str:
        return "MEASURED" if self.measured else "PROJECTION"


def next_size(sizes: Sequence[int], seconds_an_image: float, left_s: float) -> int | None:
    """The largest of some sizes that fits the time that is left; None if none does."""
    fitting = [size for size in sizes if size * seconds_an_image <= left_s]
    return max(fitting, default=None)


def largest_sample(
    classifier: Classifier,
    plan: AuditPlan,
    photos: Callable[[int], Sequence[EncodedImage]],
    *,
    sizes: Sequence[int],
    limit_s: float,
    audit_images: int,
) -> Sample:
    """Audit the smallest size, however long it takes, then once more the largest that fits what is left.

    Args:
        classifier: Warm: nothing is compiled any more.
        plan: What runs.
        photos: So many photos.
        sizes: Ascending numbers of images.
        limit_s: Seconds for both.
        audit_images: Images of the whole audit.
    """
    until = time.perf_counter() + limit_s
    first = Sample(sizes[0], ours.run(classifier, plan, photos(sizes[0]), audit_images=audit_images))
    size = next_size(sizes[1:], first.run.seconds / first.images, until - time.perf_counter())
    return first if size is None else Sample(size, ours.run(classifier, plan, photos(size), audit_images=audit_images))


def whole_of(sample: Sample, images: int, device: str) -> Whole:
    """Seconds of all images: measured, or scaled by images."""
    if sample.images >= images:
        return Whole(
            measured=True, basis=f"{images} images measured on {device}", images=images, seconds=sample.run.seconds
        )
    basis = f"{sample.images} images measured on {device}, scaled by images"
    return Whole(measured=False, basis=basis, images=images, seconds=scaled(sample.run.seconds, sample.images, images))


def record(whole: Whole, sample: Sample) -> dict[str, object]:
    """For the JSON file."""
    return {
        "kind": whole.kind,
        **asdict(whole),
        "sample": sample.images,
        "sample_seconds": sample.run.seconds,
        "sample_passes": asdict(sample.run.made),
        "peak_memory_bytes": sample.run.peak.highest_bytes,
    }
