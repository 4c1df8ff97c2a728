"""What a shard computes, and with what: the two records that `run_shard` takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from auditcore.contracts.access import Limits
from auditcore.contracts.automatic_intervals import Quantities
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import EndOfProcess, Wave
from auditcore.engine.pictures import Pictures
from auditcore.images.encoded import EncodedImage
from auditcore.images.uploaded_maps import UploadedMaps
from auditcore.models.classifier import Classifier


@final
@dataclass(frozen=True)
class ReferenceTask:
    """What a reference model is computed with.

    Attributes:
        position: Its position in `models` of the request, for errors; None for the model of the baseline.
        shared: Quantities of the whole audit that were measured of it.
    """

    position: int | None
    shared: Quantities


@final
@dataclass(frozen=True)
class ShardTask:
    """What to compute: one wave of a plan on some images.

    Attributes:
        plan: What to measure.
        wave: `measure` collects contributions to shared quantities, `compute` runs the checks.
        images: Encoded images in index order. Images that cannot be decoded are recorded and left out.
        shared: Quantities of the whole audit, from `reduce_shared`; empty in the measure wave.
        uploaded: Digest of a file of maps -> the file, for explainers of kind `precomputed`.
        model_name: Name of the model in an audit of several models.
        audit_images: Number of images of the whole audit, which decides what preparation pays off; those of the shard
            if None.
        order: Indices of all images of the audit in the order in which they are audited, if it is not the order of the
            batch. The maps of the first ones are compared with each other.
        deviation_images: How many images of the compute wave to measure exactly as well, if the plan has faster modes.
        references: Name of a model with which checks compare this one -> what it is computed with.
        left_out: Index of an image that has ended every process that computed it -> how. It is recorded with that code,
            and never decoded.
    """

    plan: AuditPlan
    wave: Wave
    images: Sequence[EncodedImage]
    shared: Quantities = field(default_factory=dict)
    uploaded: Mapping[str, UploadedMaps] = field(default_factory=dict)
    model_name: str | None = None
    audit_images: int | None = None
    order: Sequence[int] | None = None
    deviation_images: int = 0
    references: Mapping[str, ReferenceTask] = field(default_factory=dict)
    left_out: Mapping[int, EndOfProcess] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Runtime:
    """How to compute it: the loaded model and the process around it.

    Attributes:
        classifier: The model under audit, on its device. Its ledger is read before and after.
        references: The models that `ShardTask.references` names, on the same device.
        limits: Sizes that are checked before an image is decoded.
        micro_batch: Images per pass; a short calibration chooses if None. Scores depend on it only by rounding.
        memory_bytes: Memory for the activations of one pass; half of the free memory if None.
        pictures: Which images of the compute wave are drawn, and where the pictures go; nothing is drawn if None.
        progress: Called between micro-batches with the share done, in [0, 1]; may raise AuditCancelled.
        begin_images: Called once, when the models are prepared and the first image is about to be decoded.
        enough: Asked after each group of images but the last; if so, the result is that of the images done. A shard
            goes on at its next image in another call, with the same bytes for the same size of micro-batches.
        group_s: About how long a group may take, in seconds, by the calibration of the model: larger groups are halved,
            down to one image. None leaves them as large as memory allows, whatever the machine.
        clock: Seconds, monotonic.
    """

    classifier: Classifier
    references: Mapping[str, Classifier] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    micro_batch: int | None = None
    memory_bytes: int | None = None
    pictures: Pictures | None = None
    progress: Callable[[float], None] = lambda _share: None
    begin_images: Callable[[], None] = lambda: None
    enough: Callable[[], bool] = lambda: False
    group_s: float | None = None
    clock: Callable[[], float] = time.perf_counter
