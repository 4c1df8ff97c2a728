"""Pictures of the maps of a shard; they cost no pass through the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from auditcore.checks.image_group import ImageGroup
from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.preprocessing import Colors, Preprocessing
from auditcore.metrics.reduction import reduce_channels
from auditcore.report.pictures import draw_map, draw_photo


@final
@dataclass(frozen=True)
class Pictures:
    """Which images get pictures, and where the pictures go.

    Attributes:
        images: How many images of the batch get some, counted from its first.
        put: Keeps the bytes of a PNG file and returns their digest.
        order: Indices of the images in the order in which they are audited, if that is not the batch's.
    """

    images: int
    put: Callable[[bytes], str]
    order: tuple[int, ...] | None = None

    def include(self, index: int) -> bool:
        """Whether an image gets pictures."""
        return index < self.images if self.order is None else index in self.order[: self.images]


def draw_pictures(group: ImageGroup, pictures: Pictures, *, model_name: str | None = None) -> tuple[Artifact, ...]:
    """Draw each photo and the map of each explainer on it, channels summed; no pass through the model.

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
        pixels, colors = _visible(group.pixels[position].cpu(), group.classifier.preprocessing)
        found.append(
            Artifact(
                image=index,
                model=model_name,
                explainer=None,
                digest=pictures.put(draw_photo(pixels, colors)),
            )
        )
        for explainer in group.able:
            maps = group.original(explainer).maps[position : position + 1]
            drawn = draw_map(reduce_channels(maps, "sum")[0, 0].cpu(), pixels, colors)
            digest = pictures.put(drawn)
            found.append(Artifact(image=index, model=model_name, explainer=explainer.label, digest=digest))
        group.tick()
    return tuple(found)


def _visible(
    pixels: Float[Tensor, "channel height width"], preprocessing: Preprocessing
) -> tuple[Float[Tensor, "visible height width"], Colors]:
    """The channels that a picture shows, and what they are."""
    if preprocessing.pictured is None:
        return pixels, preprocessing.colors_seen
    return pixels[list(preprocessing.pictured)], "rgb"
