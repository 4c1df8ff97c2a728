"""The result of one shard of an audit: values per image, before any statistics.

A shard covers consecutive images. Its result is plain JSON, so that workers on different machines can compute shards
and any of them can assemble the report.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Iterable, Sequence
from typing import Literal, final

from pydantic import Field

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.capabilities import ModelCapabilities
from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.images import Labels
from auditcore.contracts.model_signature import ModelSignature
from auditcore.contracts.models import Scores
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.probe import ProbeAnswers
from auditcore.contracts.ranking_orders import RankingOrder

Wave = Literal["measure", "compute"]
"""`measure` collects quantities of the whole audit, such as automatic intervals; `compute` runs the checks."""

EndOfProcess = Literal["ended_process", "memory_exhausted", "time_limit"]
"""How every process ended that computed an image: without saying why, for want of memory, or at the limit of time. It
is the code with which the image is listed as excluded."""


@final
class CurveSamples(Contract):
    """One curve per image over shared positions; a missing point or curve is null."""

    x: tuple[float, ...]
    values: tuple[tuple[float | None, ...] | None, ...]
    interpolated: bool = Field(default=False, description="Some points were not measured but interpolated.")


@final
class AreaError(Contract):
    """The error of areas under adaptive curves, over all curves of a shard.

    Attributes:
        estimated: Largest value of two standard errors; at most the tolerance for a metric of one curve.
        bound: Largest possible error if every curve is monotone between neighboring measured steps.
        steps_measured: Measured steps between the ends of all curves.
        steps: Steps of the exact curves.
    """

    estimated: float
    bound: float
    steps_measured: int
    steps: int


def worst_error(errors: Iterable[AreaError | None]) -> AreaError | None:
    """Combine the errors of several parts of an audit; None if no part has adaptive curves."""
    known = [error for error in errors if error is not None]
    if not known:
        return None
    return AreaError(
        estimated=max(error.estimated for error in known),
        bound=max(error.bound for error in known),
        steps_measured=sum(error.steps_measured for error in known),
        steps=sum(error.steps for error in known),
    )


@final
class Measurement(Contract):
    """One metric of one explainer on the images of a shard.

    Attributes:
        values: One value per image, in the order of the used `ShardResult.images`; the mean over the image's targets.
        reasons: Image index -> why its value is null.
        per_target: If images have several targets: per image one value per target, in the order of its record.
        error: Error of areas under adaptive curves.
        ranked_by: Order of pixels or cells that the values are based on; null without an order.
    """

    check: str
    explainer: str | None
    metric: str
    variant: str | None = None
    unit: str
    higher_is_better: bool | None
    values: tuple[float | None, ...]
    reasons: dict[int, str] = Field(default_factory=dict)
    curve: CurveSamples | None = None
    control: bool = False
    per_target: tuple[tuple[float | None, ...], ...] | None = None
    error: AreaError | None = None
    ranked_by: RankingOrder | None = None


@final
class DeviationSample(Contract):
    """One metric measured twice on the same images and classes: in the plan's faster modes, and exactly.

    Attributes:
        images: Index of each image.
        fast: Value of each image as audited.
        exact: Value of each image in float32, not compiled, over every step.
    """

    check: str
    explainer: str | None
    metric: str
    variant: str | None = None
    images: tuple[int, ...]
    fast: tuple[float | None, ...]
    exact: tuple[float | None, ...]


PACKED_FROM = 1000
"""Rows of at least this many numbers are packed: 11 bytes per number instead of about 20, and read 30 times as fast."""


@final
class SharedSample(Contract):
    """Contributions to a quantity of the whole audit, reduced by its check or explainer after the first wave.

    Attributes:
        values: Rows of numbers, in the order of images. A row belongs to one image, or to several images that its
            explainer has merged.
        packed: The same for long rows: float64, little-endian, in base64.
    """

    key: str
    values: tuple[tuple[float, ...], ...] = ()
    packed: tuple[str, ...] = ()

    @classmethod
    def of(cls, key: str, rows: Sequence[Sequence[float]]) -> SharedSample:
        """Create a sample in the more compact form.

        Args:
            key: Name of the quantity.
            rows: Rows of the same length.
        """
        if rows and len(rows[0]) >= PACKED_FROM:
            return cls(key=key, packed=tuple(_pack(row) for row in rows))
        return cls(key=key, values=tuple(tuple(row) for row in rows))

    @property
    def rows(self) -> tuple[Sequence[float], ...]:
        """All rows, packed or not."""
        return (*self.values, *(_unpack(row) for row in self.packed))


def _pack(row: Sequence[float]) -> str:
    numbers = array("d", row)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


def _unpack(row: str) -> array[float]:
    numbers = array("d", base64.b64decode(row))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


SKETCH_SCALE = 32767
"""A sketch has length 1, so its values lie in [-1, 1]; they are stored as integers of 16 bits. This changes a
correlation by less than 0.0001."""


@final
class MapSketches(Contract):
    """Sketches of the maps of one explainer, which the report compares with sketches of other shards.

    Attributes:
        images: Index of each image; only the first images of an audit have sketches.
        sketches: Base64 of 1024 little-endian integers of 16 bits; null if the map has no correlation.
        reasons: Image index -> why its sketch is null.
    """

    explainer: str
    images: tuple[int, ...] = ()
    sketches: tuple[str | None, ...] = ()
    reasons: dict[int, str] = Field(default_factory=dict)


@final
class ExplainedClass(Contract):
    """A class that is explained for an image, with the probability of the original image for it.

    Attributes:
        target: Index of the class.
        probability: Its probability on the original image.
    """

    target: int
    probability: float


@final
class ImageRecord(Contract):
    """The record of one image. If it was excluded, `reason` and the error's `code` are set.

    Attributes:
        predicted: Most probable class on the original image, even if it was excluded afterwards; null if the model has
            not seen the image.
        note: What a reader should know of the values of its file; null if nothing.
    """

    index: int
    name: str | None = None
    digest: Sha256 | None = None
    label: Labels | None = None
    targets: tuple[ExplainedClass, ...] = ()
    predicted: int | None = None
    code: str | None = None
    reason: str | None = None
    note: str | None = None


@final
class ModelRecord(Contract):
    """The model that really ran.

    Attributes:
        digest: sha256 over names, shapes, types and bytes of all parameters and buffers; for a black box, over the
            server's description or over its file.
        classes: Number of classes.
        preprocessing: How an image becomes its input.
        parameters: Number of trainable values; null for a black box.
        trained: False for `random:` weights.
        capabilities: What an audit can use of the model.
        scores: How its logits become probabilities.
        structure: sha256 over names and shapes of all parameters and buffers, which is the same for all weights of an
            architecture; null for a black box.
        signature: The signature of its files that was verified; null without one.
    """

    digest: Sha256
    classes: int
    parameters: int | None
    trained: bool
    preprocessing: Preprocessing
    capabilities: ModelCapabilities = ModelCapabilities()
    scores: Scores = "softmax"
    structure: Sha256 | None = None
    signature: ModelSignature | None = None


@final
class CheckCost(Contract):
    """The passes of one check.

    Attributes:
        forward_images: Images that passed forward through the model.
        backward_images: Images that passed backward.
        share: Its part of all passes, in [0, 1]; a backward pass counts as 1.3 forward passes.
    """

    forward_images: int = 0
    backward_images: int = 0
    share: float = 0.0


@final
class Cost(Contract):
    """Passes, seconds and memory. Passes are counted in images through the model, by hooks on the model itself.

    Attributes:
        forward_images: Images that passed forward through the model.
        backward_images: Images that passed backward.
        seconds: Seconds that workers computed.
        device: Where the model ran.
        peak_memory_bytes: Most memory in use at once, in bytes; 0 where it was not measured.
    """

    forward_images: int = 0
    backward_images: int = 0
    checks: dict[str, CheckCost] = Field(
        default_factory=dict,
        description="By check. `originals` are the maps that all checks share, `repeatability` maps of stochastic "
        "explainers with another draw, `measure` the first wave, `deviation` the exact measurements of faster modes.",
    )
    seconds: float = 0.0
    estimated_seconds: float | None = Field(
        default=None, description="Estimate of `seconds` when the service accepted the audit."
    )
    device: str = "cpu"
    peak_memory_bytes: int = 0
    micro_batch: int | None = Field(default=None, description="Images per pass at the end of a shard.")


Way = Literal["eager", "graphs", "compiled"]
"""Kernel by kernel; recorded as a CUDA graph and replayed; or compiled and then recorded."""


@final
class Calibration(Contract):
    """Calibrated number of images per pass, and the measured speeds.

    Attributes:
        micro_batch: Images per pass.
        forward_per_s: Images per second, forward only.
        gradient_per_s: Images per second, forward and backward to the input.
        comparison_per_s: Maps per second that a sweep warps, ranks and correlates with others.
        way: How passes of the plain model run on an accelerator; always `eager` on a CPU.
    """

    micro_batch: int
    forward_per_s: float
    gradient_per_s: float
    comparison_per_s: float
    way: Way = "eager"


@final
class ShardResult(Contract):
    """All results of a shard. `model_name` is set in an audit of several models."""

    wave: Wave
    model_name: str | None = None
    images: tuple[ImageRecord, ...]
    measurements: tuple[Measurement, ...] = ()
    shared: tuple[SharedSample, ...] = ()
    sketches: tuple[MapSketches, ...] = Field(
        default=(), description="Sketches of the maps of the first images; see `image_dependence` of the report."
    )
    not_applicable: dict[str, str] = Field(default_factory=dict, description="Explainer -> why it cannot run here.")
    layers: dict[str, str] = Field(default_factory=dict, description="Explainer -> module path of the layer it reads.")
    references: dict[str, Sha256] = Field(
        default_factory=dict,
        description="Model with which checks compared this one -> digest of its weights, as loaded for this shard.",
    )
    artifacts: tuple[Artifact, ...] = Field(default=(), description="Pictures; their bytes are sent separately.")
    deviations: tuple[DeviationSample, ...] = Field(
        default=(), description="Faster modes compared with exact values, on images that were measured both ways."
    )
    class_names: dict[int, str] = Field(
        default_factory=dict, description="What the model calls the classes and labels of the images; empty if unknown."
    )
    model: ModelRecord
    probe: ProbeAnswers | None = Field(default=None, description="Answers to the probe of a model behind a server.")
    cost: Cost
    calibration: Calibration | None = None
    preparation_seconds: float = Field(
        default=0.0,
        description="Part of `cost.seconds` that only the first shard of a model needs: the model is folded, "
        "calibrated, and rewritten for methods that replace layer rules.",
    )
    notes: tuple[str, ...] = Field(default=(), description="Notes for the reader on how this was computed.")
    environment: dict[str, str] = Field(default_factory=dict)
