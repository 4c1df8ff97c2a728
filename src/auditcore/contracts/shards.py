"""What one shard of an audit answers: per-image values, before any statistics.

A shard covers consecutive images. Its result is plain JSON, so that workers on different machines
can compute shards and any of them can assemble the report.
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
from auditcore.contracts.models import Preprocessing, Scores
from auditcore.contracts.probe import ProbeAnswers
from auditcore.contracts.ranking_orders import RankingOrder

Wave = Literal["measure", "compute"]
"""`measure` collects quantities of the whole audit, such as automatic intervals; `compute` does the checks."""


@final
class CurveSamples(Contract):
    """One curve an image over shared positions; a missing point or curve is null."""

    x: tuple[float, ...]
    values: tuple[tuple[float | None, ...] | None, ...]
    interpolated: bool = Field(default=False, description="Some points were not measured but lie on the line between.")


@final
class AreaError(Contract):
    """What is known of the error of areas under adaptive curves, over all curves of a shard.

    Attributes:
        estimated: Largest two standard errors; at most the tolerance for a metric of one curve.
        bound: Largest error if every curve is monotone between neighboring measured steps.
        steps_measured: Steps between the ends of all curves that went through the model.
        steps: Steps that exact curves would have taken.
    """

    estimated: float
    bound: float
    steps_measured: int
    steps: int


def worst_error(errors: Iterable[AreaError | None]) -> AreaError | None:
    """What is known of the areas of several parts of an audit together; None if no part has adaptive curves."""
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
        values: One value an image, in the order of `ShardResult.images` that are used; the mean over its targets.
        reasons: Image index -> why its value is null.
        per_target: Where an image has several targets: for each image one value a target, in the order of its record.
        error: Of areas under adaptive curves.
        ranked_by: Order of pixels or cells that the values rest on; null where there is none.
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
    """One metric of the same images and classes twice: in the plan's faster modes, and exactly.

    Attributes:
        images: Index of each image.
        fast: Its value as audited.
        exact: Its value in float32, uncompiled, over every step.
    """

    check: str
    explainer: str | None
    metric: str
    variant: str | None = None
    images: tuple[int, ...]
    fast: tuple[float | None, ...]
    exact: tuple[float | None, ...]


PACKED_FROM = 1000
"""Numbers from which a row travels packed: 11 bytes a number instead of about 20, and read 30 times as fast."""


@final
class SharedSample(Contract):
    """Contributions to a quantity of the whole audit, reduced by its check or explainer after the first wave.

    Attributes:
        values: Rows of numbers, in the order of images. A row belongs to one image, or to several that its explainer
            has merged.
        packed: The same, where rows are long: float64, little-endian, in base64.
    """

    key: str
    values: tuple[tuple[float, ...], ...] = ()
    packed: tuple[str, ...] = ()

    @classmethod
    def of(cls, key: str, rows: Sequence[Sequence[float]]) -> SharedSample:
        """Rows as they travel best.

        Args:
            key: Name of the quantity.
            rows: All of one length.
        """
        if rows and len(rows[0]) >= PACKED_FROM:
            return cls(key=key, packed=tuple(_pack(row) for row in rows))
        return cls(key=key, values=tuple(tuple(row) for row in rows))

    @property
    def rows(self) -> tuple[Sequence[float], ...]:
        """All rows, in whichever form they travelled."""
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
"""A sketch has length 1, so its values lie in [-1, 1]; they travel as integers of 16 bits. That changes a correlation
by less than 0.0001."""


@final
class MapSketches(Contract):
    """What a report needs of the maps of one explainer to compare them with maps of other shards.

    Attributes:
        images: Index of each image; only the first images of an audit have sketches.
        sketches: Base64 of 1024 little-endian integers of 16 bits; null where the map has no correlation.
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
    """What became of one image. `reason` is set when it was excluded, with the error's `code`.

    Attributes:
        predicted: Most probable class on the original image, whether it was excluded after that or not; null where the
            model has not seen it.
    """

    index: int
    name: str | None = None
    digest: Sha256 | None = None
    label: Labels | None = None
    targets: tuple[ExplainedClass, ...] = ()
    predicted: int | None = None
    code: str | None = None
    reason: str | None = None


@final
class ModelRecord(Contract):
    """The model that really ran.

    Attributes:
        digest: sha256 over names, shapes, types and bytes of all parameters and buffers; of a black box, over what its
            server says of it or over its file.
        parameters: Number of trainable values; null for a black box.
        trained: False for `random:` weights.
        capabilities: What it lets an audit see.
        scores: How its logits become probabilities.
        structure: sha256 over names and shapes of all parameters and buffers, the same for any weights of an
            architecture; null for a black box.
    """

    digest: Sha256
    classes: int
    parameters: int | None
    trained: bool
    preprocessing: Preprocessing
    capabilities: ModelCapabilities = ModelCapabilities()
    scores: Scores = "softmax"
    structure: Sha256 | None = None


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
        description="By check; `originals` are the maps all checks share, `repeatability` maps of stochastic "
        "explainers under another draw, `measure` the first wave, `deviation` what was measured once more exactly.",
    )
    seconds: float = 0.0
    estimated_seconds: float | None = Field(
        default=None, description="What `seconds` were expected to be when the service accepted the audit."
    )
    device: str = "cpu"
    peak_memory_bytes: int = 0
    micro_batch: int | None = Field(default=None, description="Images that passed at once, in the end; of one shard.")


Way = Literal["eager", "graphs", "compiled"]
"""Kernel by kernel; recorded once as a CUDA graph and replayed; or compiled, and then recorded."""


@final
class Calibration(Contract):
    """How many images pass through the model at once, and how fast it is then.

    Attributes:
        micro_batch: Images a pass.
        forward_per_s: Images a second, forward alone.
        gradient_per_s: Images a second, forward and back to the input.
        comparison_per_s: Maps a second that a sweep moves, ranks and correlates with others.
        way: How passes of the plain model run on an accelerator; they run as they are on a CPU.
    """

    micro_batch: int
    forward_per_s: float
    gradient_per_s: float
    comparison_per_s: float
    way: Way = "eager"


@final
class ShardResult(Contract):
    """Everything a shard found out. `model_name` is set in an audit of several models."""

    wave: Wave
    model_name: str | None = None
    images: tuple[ImageRecord, ...]
    measurements: tuple[Measurement, ...] = ()
    shared: tuple[SharedSample, ...] = ()
    sketches: tuple[MapSketches, ...] = Field(
        default=(), description="Of the maps of the first images, by explainer; see `image_dependence` of the report."
    )
    not_applicable: dict[str, str] = Field(default_factory=dict, description="Explainer -> why it cannot run here.")
    layers: dict[str, str] = Field(default_factory=dict, description="Explainer -> module path of the layer it reads.")
    artifacts: tuple[Artifact, ...] = Field(default=(), description="Pictures drawn; their bytes travel beside this.")
    deviations: tuple[DeviationSample, ...] = Field(
        default=(), description="What faster modes change, on the images of the shard that were measured exactly too."
    )
    model: ModelRecord
    probe: ProbeAnswers | None = Field(default=None, description="Of a model behind a server.")
    cost: Cost
    calibration: Calibration | None = None
    preparation_seconds: float = Field(
        default=0.0,
        description="Part of `cost.seconds` that only the first shard of a model pays: it is folded, "
        "calibrated, and rewritten for methods that replace the rules of layers.",
    )
    notes: tuple[str, ...] = Field(default=(), description="What a reader should know of how this was computed.")
    environment: dict[str, str] = Field(default_factory=dict)
