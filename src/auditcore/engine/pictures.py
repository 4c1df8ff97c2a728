"""Pictures of the maps of a shard; they cost no pass through the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.preprocessing import Colors, Preprocessing
from auditcore.metrics.reduction import reduce_channels
from auditcore.report.pictures import Detail, draw_maps, draw_photo


@final
@dataclass(frozen=True)
class Pictures:
    """Which images get pictures, how fine they are, and where they go.

    Attributes:
        images: How many images of the batch get some, counted from its first.
        put: Keeps the bytes of a WebP file and returns their digest.
        detail: How finely maps are drawn.
        order: Indices of the images in the order in which they are audited, if that is not the batch's.
    """

    images: int
    put: Callable[[bytes], str]
    detail: Detail
    order: tuple[int, ...] | None = None

    def include(self, index: int) -> bool:
        """Whether an image gets pictures."""
        return index < self.images if self.order is None else index in self.order[: self.images]


def draw_pictures(group: ImageGroup, pictures: Pictures, *, model_name: str | None = None) -> tuple[Artifact, ...]:
    """Draw each photo and the maps of all explainers on it, channels summed; no pass through the model.

    Args:
        group: Images whose original maps are computed.
        pictures: What to draw, and where to keep it.
        model_name: What the audit calls the model, if it audits several.

    Returns:
        The photo of an image, then its maps in the order of the plan, image by image.
    """
    found: list[Artifact] = []
    for position, index in enumerate(group.indices):
        if not pictures.include(index) or index in group.indices[:position]:
            continue  # an image with several targets shows the maps of its first
        photo = pictures.put(draw_photo(*_visible(group.pixels[position].cpu(), group.classifier.preprocessing)))
        found.append(Artifact(image=index, model=model_name, digest=photo))
        if group.able:
            found.append(_maps(group, pictures, position, model_name))
        group.tick()
    return tuple(found)


def _maps(group: ImageGroup, pictures: Pictures, position: int, model_name: str | None) -> Artifact:
    """The maps of one image in one file."""
    maps = [group.original(explainer).maps[position : position + 1] for explainer in group.able]
    names = tuple(explainer.label for explainer in group.able)
    data, flat = draw_maps(torch.cat([reduce_channels(one, "sum")[0].cpu() for one in maps]), pictures.detail)
    return Artifact(
        image=group.indices[position],
        model=model_name,
        explainers=names,
        flat=tuple(name for name, is_flat in zip(names, flat, strict=True) if is_flat),
        digest=pictures.put(data),
    )


def _visible(
    pixels: Float[Tensor, "channel height width"], preprocessing: Preprocessing
) -> tuple[Float[Tensor, "visible height width"], Colors]:
    """The channels that a picture shows, and what they are."""
    if preprocessing.pictured is None:
        return pixels, preprocessing.colors_seen
    return pixels[list(preprocessing.pictured)], "rgb"
