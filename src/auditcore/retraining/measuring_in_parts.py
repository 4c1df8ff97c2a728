"""Measuring images in parts that are kept, so that an interruption costs at most the part that runs."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import final

import torch
from torch import Tensor

from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.retraining.kept import CountedWork
from auditcore.costs.estimate import weight
from auditcore.errors import WorkInterrupted
from auditcore.kept_files import KeptFiles
from auditcore.models.classifier import Classifier
from auditcore.retraining.kept_results import MeasuredTensors, keep_tensors, read_tensors
from auditcore.retraining.pixel_ranks import IMAGES_AT_ONCE

IMAGES_OF_PART = IMAGES_AT_ONCE
"""A multiple of it keeps the batches of passes, and so the last digits, as they are without parts."""

_SHARED = "shared/"

MeasurePart = Callable[[slice, MutableMapping[str, Tensor], Callable[[], None]], dict[str, Tensor]]
"""(positions of images, values that all parts share, tick) -> tensors whose first dimension is the images.

What is not yet among the shared values is made and added; tick is called after each batch."""


@final
class MeasuringInParts:
    """The measuring of one stage.

    Attributes:
        name: Of the kept tensors; the parts are kept until they are whole.
    """

    def __init__(
        self, kept: KeptFiles, name: str, *, images: int, measured: Classifier, clock: Callable[[], float]
    ) -> None:
        """Prepare; nothing is measured yet.

        Args:
            kept: Where parts and the whole are kept.
            name: Name of what is measured, such as `values/grad_cam`.
            images: Number of images, at least 1.
            measured: The model; its ledger counts the passes.
            clock: Seconds, monotonic.
        """
        self.name = name
        self._kept, self._images, self._ledger, self._clock = kept, images, measured.ledger, clock
        self._device = measured.device

    def run(
        self,
        work: MeasurePart,
        *,
        expected: Passes,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> MeasuredTensors:
        """Measure what is not kept yet, and keep it.

        Args:
            work: Measures some images.
            expected: Passes of the whole, for the progress.
            progress: Called after each batch with the share done, in [0,1]; may raise AuditCancelled.
            enough: Asked after each batch and each part; what a part has done is lost.

        Raises:
            WorkInterrupted: It was enough for now; the parts that are done are kept.
            InvalidRequest: A kept file is damaged or cannot be written.
        """
        parts: list[dict[str, Tensor]] = []
        shared: dict[str, Tensor] = {}
        counted = CountedWork()
        whole = read_tensors(self._kept, self._whole)
        starts = range(0, self._images, IMAGES_OF_PART)
        for number, start in enumerate(starts if whole is None else ()):
            known = read_tensors(self._kept, self._part(number))
            if known is None:
                if number and enough():
                    raise WorkInterrupted
                part = slice(start, min(start + IMAGES_OF_PART, self._images))
                known = self._measure(work, part, shared, self._tick(counted, expected, progress, enough))
                keep_tensors(self._kept, self._part(number), known)
            own = {key: value for key, value in known.tensors.items() if not key.startswith(_SHARED)}
            shared |= {
                key.removeprefix(_SHARED): value.to(self._device)
                for key, value in known.tensors.items()
                if key.startswith(_SHARED) and key.removeprefix(_SHARED) not in shared
            }
            parts.append(own)
            counted = counted.plus(known.counted)
        if whole is None:
            whole = MeasuredTensors({key: torch.cat([one[key] for one in parts]) for key in parts[0]}, counted)
            keep_tensors(self._kept, self._whole, whole)
        for number in range(len(starts)):
            self._kept.forget(self._part(number))
        progress(1.0)
        return whole

    def _measure(
        self, work: MeasurePart, part: slice, shared: dict[str, Tensor], tick: Callable[[], None]
    ) -> MeasuredTensors:
        ledger, began = self._ledger, self._clock()
        forward, backward = ledger.forward_images, ledger.backward_images
        found = work(part, shared, tick)
        counted = CountedWork(
            forward_images=ledger.forward_images - forward,
            backward_images=ledger.backward_images - backward,
            seconds=self._clock() - began,
        )
        return MeasuredTensors(found | {f"{_SHARED}{key}": value for key, value in shared.items()}, counted)

    def _tick(
        self,
        counted: CountedWork,
        expected: Passes,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
    ) -> Callable[[], None]:
        ledger = self._ledger
        forward = ledger.forward_images - counted.forward_images
        backward = ledger.backward_images - counted.backward_images

        def tick() -> None:
            done = Passes(ledger.forward_images - forward, ledger.backward_images - backward)
            progress(min(1.0, weight(done) / max(1.0, weight(expected))))
            if enough():
                raise WorkInterrupted

        return tick

    @property
    def _whole(self) -> str:
        return f"{self.name}.safetensors"

    def _part(self, number: int) -> str:
        return f"parts/{self.name}/{number}.safetensors"


def read_measured(kept: KeptFiles, name: str) -> MeasuredTensors:
    """What an earlier stage has measured.

    Args:
        kept: Where it is kept.
        name: As of `MeasuringInParts`.

    Raises:
        InvalidRequest: The file is damaged.
    """
    found = read_tensors(kept, f"{name}.safetensors")
    assert found is not None  # noqa: S101 - stages of earlier waves are done
    return found
