"""A model with which checks compare the model under audit, in one shard of the latter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from auditcore.checks.image_group import ImageGroup, ReferenceRows
from auditcore.checks.micro_batches import MicroBatches
from auditcore.contracts.access import Limits
from auditcore.devices.transfer import numbers_on
from auditcore.explainers.attribution import MadePasses
from auditcore.images.batch import DecodedBatch, decode_batch
from auditcore.images.encoded import EncodedImage
from auditcore.images.placement import InputPart, part_seen_by_both
from auditcore.models.classifier import Classifier


@final
@dataclass
class ReferenceModel:
    """A reference model, prepared for a plan.

    Attributes:
        name: Its name in the audit.
        position: Its position in `models` of the request; None for the model of the baseline.
        classifier: The model at the speed of the plan.
        shared: Quantities of the whole audit that were measured of it.
        micro_batches: How many images pass through it at once.
        colors: Its logits of images of one color, kept for the whole shard.
    """

    name: str
    position: int | None
    classifier: Classifier
    shared: Mapping[str, tuple[float, ...]]
    micro_batches: MicroBatches
    colors: dict[str, Tensor] = field(default_factory=dict)

    def rows_of(
        self, group: ImageGroup, decoded: Sequence[EncodedImage], batch: DecodedBatch, limits: Limits
    ) -> ReferenceRows:
        """The rows of a group as this model sees them: with its own sizes, for the targets of the group.

        Args:
            group: The group under audit.
            decoded: The images that the model under audit can use, encoded.
            batch: The same images as it sees them.
            limits: Sizes that are checked before an image is decoded.
        """
        own, other = group.classifier, self.classifier
        missing: dict[int, str] = {}
        rows: list[int] = []
        places: list[int] = []
        parts: list[tuple[InputPart, InputPart]] = []
        if other.preprocessing == own.preprocessing:
            seen, where = batch, {image.index: place for place, image in enumerate(decoded)}
        else:
            seen = decode_batch(decoded, other.preprocessing, limits)
            where = {decoded[position].index: place for place, position in enumerate(seen.used)}
        refused = {record.index: record.reason for record in seen.excluded}
        for row, index in enumerate(group.indices):
            if other.classes != own.classes:
                missing[row] = (
                    f"this model has {own.classes} classes and model {self.name!r} has {other.classes}, so that their "
                    "classes do not correspond"
                )
            elif index not in where:
                missing[row] = f"model {self.name!r}: {refused[index]}"
            else:
                rows.append(row)
                places.append(where[index])
                place = where[index]
                # a tensor is the whole input of both models, wherever their preprocessing would cut a photo
                kept = {"keep_final": True} if seen.ready[place] else {}
                first, second = (each.preprocessing.model_copy(update=kept) for each in (own, other))
                parts.append(part_seen_by_both(seen.sizes[place], first, second))
        picked = group.take(rows)
        reference = replace(
            picked.with_model(other, MadePasses()),
            pixels=seen.pixels.to(other.device)[numbers_on(places, other.device, torch.long)],
            micro_batches=self.micro_batches,
            shared=self.shared,
            colors=self.colors,
            boxes=(),
            masks=(),
            uploaded={},
        )
        return ReferenceRows(self.name, self.position, reference, tuple(rows), tuple(parts), missing)
