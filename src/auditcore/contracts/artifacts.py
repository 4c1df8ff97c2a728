"""Pictures that belong to a report and are stored separately."""

from __future__ import annotations

from typing import Annotated, Final, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Sha256

PICTURE_IMAGES: Final = 100
"""Default number of images of a batch that get pictures.

Each adds two entries to the report, 0.6 KB with eleven explainers, and one to two files of pictures.
"""


def _none(value: object) -> bool:
    """Left out of the JSON: a report lists two artifacts for each image."""
    return value in ((), None)


@final
class Artifact(Contract):
    """A file of pictures: an image as the model sees it, or the maps of all explainers on it, one below the other.

    Maps are gray pictures of values: black is -1, the middle gray 127.5 is 0, and white is 1, in units of the 99.5 %
    quantile of the map's own absolute values. So they can be laid over the photo in any color.

    Reports of earlier versions list each map by itself: a PNG with the map in color over the photo, and its
    `explainer`.
    """

    image: int = Field(description="Index of the image in the batch.")
    model: str | None = Field(
        default=None, description="In an audit of several models, the model it was drawn for; each has its own photo."
    )
    explainer: Annotated[str | None, Field(exclude_if=_none)] = Field(
        default=None, description="Explainer of a map that has a file of its own, in reports of earlier versions."
    )
    explainers: Annotated[tuple[str, ...], Field(exclude_if=_none)] = Field(
        default=(), description="Explainers of the maps from top to bottom, all of the same height; absent for a photo."
    )
    flat: Annotated[tuple[str, ...], Field(exclude_if=_none)] = Field(
        default=(),
        description="Those of them whose map is constant or not finite, so that it points nowhere; it is drawn as 0.",
    )
    media_type: Literal["image/webp", "image/png"] = Field(
        default="image/webp", description="Of the file; PNG only in reports of earlier versions."
    )
    digest: Sha256 = Field(description="Content address of the file, at `/v1/audits/{id}/artifacts/{digest}`.")
