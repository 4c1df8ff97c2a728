"""How a request names the images, and what is known of a stored batch."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import Base64Bytes, Field

from auditcore.contracts.contract import Contract, Sha256

Label = Annotated[int, Field(ge=0, description="Class index, from 0.")]


@final
class ImageBatchReference(Contract):
    """Images uploaded before with `POST /v1/image-batches`."""

    kind: Literal["batch"] = "batch"
    digest: Sha256


@final
class ImageUri(Contract):
    """One image to fetch: `file:///path` within allowed roots, or `https://...` from allowed prefixes."""

    uri: str = Field(min_length=1, max_length=2048)
    sha256: Sha256 | None = None
    label: Label | None = None


@final
class ImageUris(Contract):
    """Images the worker fetches itself, once, when the audit first needs them."""

    kind: Literal["uris"] = "uris"
    uris: tuple[ImageUri, ...] = Field(min_length=1, max_length=10_000)


@final
class InlineImage(Contract):
    """One encoded image file (PNG, JPEG, WebP, BMP, TIFF, GIF) in base64."""

    data: Base64Bytes
    label: Label | None = None


@final
class InlineImages(Contract):
    """A few images inside the request itself."""

    kind: Literal["inline"] = "inline"
    images: tuple[InlineImage, ...] = Field(min_length=1, max_length=16)


ImagesReference = Annotated[ImageBatchReference | ImageUris | InlineImages, Field(discriminator="kind")]


@final
class BatchEntry(Contract):
    """One image of a stored batch."""

    name: str = Field(max_length=255)
    digest: Sha256
    size_bytes: int = Field(ge=1)
    label: Label | None = None


@final
class BatchManifest(Contract):
    """What a batch holds, in order; the batch's digest is the sha256 of this manifest's canonical JSON."""

    entries: tuple[BatchEntry, ...] = Field(min_length=1)
