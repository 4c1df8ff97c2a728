"""Pictures that belong to a report and are stored beside it."""

from __future__ import annotations

from typing import Final, Literal, final

from pydantic import Field

from auditcore.contracts.contract import Contract, Sha256

PICTURE_IMAGES: Final = 25
"""Images of a batch that get pictures unless the operator says otherwise.

A report of 100 images and eleven explainers takes up to 0.94 MB of the 1 MB it may take; each image with pictures adds
1.8 KB of digests, and 0.35 MB beside the report.
"""


@final
class Artifact(Contract):
    """One picture: the map of an explainer on an unchanged image, or the image itself as the model sees it."""

    image: int = Field(description="Index of the image in the batch.")
    model: str | None = Field(
        default=None, description="In an audit of several models, for which one it was drawn; each sees its own photo."
    )
    explainer: str | None = Field(description="Whose map it is; null for the photo.")
    media_type: Literal["image/png"] = "image/png"
    digest: Sha256 = Field(description="Content address of the file, at `/v1/audits/{id}/artifacts/{digest}`.")
