"""Pictures that belong to a report and are stored separately."""

from __future__ import annotations

from typing import Final, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Sha256

PICTURE_IMAGES: Final = 25
"""Default number of images of a batch that get pictures.

A report of 100 images and eleven explainers takes up to 0.94 MB of the 1 MB it may take. Each image with pictures adds
1.8 KB of digests to the report and 0.35 MB of pictures.
"""


@final
class Artifact(Contract):
    """One picture: the map of an explainer on an unchanged image, or the image itself as the model sees it."""

    image: int = Field(description="Index of the image in the batch.")
    model: str | None = Field(
        default=None, description="In an audit of several models, the model it was drawn for; each has its own photo."
    )
    explainer: str | None = Field(description="Explainer of the map; null for the photo.")
    media_type: Literal["image/png"] = "image/png"
    digest: Sha256 = Field(description="Content address of the file, at `/v1/audits/{id}/artifacts/{digest}`.")
