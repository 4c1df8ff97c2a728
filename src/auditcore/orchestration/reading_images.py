"""From a request's images to their bytes."""

from __future__ import annotations

from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.images import (
    ImageBatchReference,
    ImageUri,
    ImageUris,
    InlineImages,
    file_name,
    inline_manifest,
    inline_name,
)
from auditcore.contracts.request import AuditRequest
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.sources.fetching import BlobReader, read_resource


def read_images(request: AuditRequest, access: AccessRules) -> list[EncodedImage]:
    """The encoded images that a request carries or points to.

    Raises:
        InvalidRequest: The request names a stored batch, which only a service knows.
        InputError: An image cannot be fetched, or its bytes have another digest than the request says.
    """
    match request.images:
        case InlineImages(images=inline):
            return [
                EncodedImage(number, inline_name(number), image.data, image.label, image.boxes, image.masks)
                for number, image in enumerate(inline)
            ]
        case ImageUris(uris=uris):
            return [encoded_uri(image, number, read_uri(image, number, access)) for number, image in enumerate(uris)]
        case ImageBatchReference():
            msg = "only a service knows a stored batch; pass `images`, or name URIs or inline images"
            raise InvalidRequest(msg, field="images")


def with_stored_images(request: AuditRequest) -> AuditRequest:
    """The same request without pixels: inline images become the batch that a service would store.

    The report then has the same digest of its request, wherever the audit ran.
    """
    if not isinstance(request.images, InlineImages):
        return request
    digest = digest_of(inline_manifest(request.images.images))
    return request.model_copy(update={"images": ImageBatchReference(digest=digest)})


def read_uri(image: ImageUri, index: int, access: AccessRules, *, blobs: BlobReader | None = None) -> bytes:
    """The bytes behind an image's URI.

    Args:
        image: The image.
        index: Its position in the request.
        access: What may be reached, and how large an image may be.
        blobs: Reads `blob:` URIs; they are refused if None.

    Raises:
        InputError: The image cannot be fetched, or its bytes have another digest than the request says.
    """
    return read_resource(
        image.uri,
        access=access,
        field=f"images.uris.{index}.uri",
        limit_bytes=access.limits.image_bytes,
        sha256=image.sha256,
        blobs=blobs,
    )


def encoded_uri(image: ImageUri, index: int, data: bytes) -> EncodedImage:
    """An image that was fetched from its URI, named after the last part of it."""
    return EncodedImage(index, file_name(image.uri), data, image.label, image.boxes, image.masks)
