"""From a request's images to their bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from typing import Protocol

from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import digest_of
from auditcore.contracts.class_names import ClassNames
from auditcore.contracts.contract import Sha256
from auditcore.contracts.image_names import inline_name, uri_name
from auditcore.contracts.images import (
    BatchEntry,
    BatchManifest,
    ImageBatchReference,
    ImagesReference,
    ImageUri,
    ImageUris,
    InlineImages,
    TensorImages,
    inline_manifest,
    stored_masks,
)
from auditcore.contracts.model_faults import blaming_model
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.request import AuditRequest
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.images.patient_data import bytes_to_keep
from auditcore.images.tensor_batches import ByteStream, TensorBatch, cut, open_batch, require_model
from auditcore.sources.fetching import BlobReader, open_resource, read_resource


class AsksForImages(Protocol):
    """A request with images and the models that will see them."""

    @property
    def images(self) -> ImagesReference:
        """The images."""

    @property
    def references(self) -> tuple[tuple[str | None, ModelReference], ...]:
        """Name and reference of every model."""


def read_images(request: AsksForImages, access: AccessRules) -> list[EncodedImage]:
    """The encoded images that a request carries or points to.

    Raises:
        InvalidRequest: The request names a stored batch, which only a service knows.
        InputError: An image cannot be fetched, or its bytes have another digest than the request says.
    """
    match request.images:
        case InlineImages(images=inline):
            return [
                EncodedImage(
                    number, inline_name(number), bytes_to_keep(image.data), image.label, image.boxes, image.masks
                )
                for number, image in enumerate(inline)
            ]
        case ImageUris(uris=uris):
            return [encoded_uri(image, number, read_uri(image, number, access)) for number, image in enumerate(uris)]
        case TensorImages() as tensors:
            with open_tensors(tensors, access) as (stream, batch):
                require_models(batch, request)
                return list(cut_tensors(tensors, stream, batch))
        case ImageBatchReference():
            msg = "only a service knows a stored batch; pass `images`, or name URIs or inline images"
            raise InvalidRequest(msg, field="images")


def with_stored_images(request: AuditRequest, images: Sequence[EncodedImage]) -> AuditRequest:
    """The same request without pixels: inline images and tensors become the batch that a service would store.

    The report then has the same digest of its request, wherever the audit ran.

    Args:
        request: The request.
        images: Its images, as `read_images` returns them.
    """
    match request.images:
        case InlineImages(images=inline):
            manifest = inline_manifest(
                [one.model_copy(update={"data": image.data}) for one, image in zip(inline, images, strict=True)]
            )
        case TensorImages():
            manifest = manifest_of(images)
        case _:
            return request
    return request.model_copy(update={"images": ImageBatchReference(digest=digest_of(manifest))})


def manifest_of(images: Sequence[EncodedImage], class_names: ClassNames = ()) -> BatchManifest:
    """The batch that images and names of classes form when they are uploaded."""
    return BatchManifest(entries=tuple(map(entry_of, images)), class_names=class_names)


def manifest_digest(images: Sequence[EncodedImage], class_names: ClassNames = ()) -> Sha256:
    """The digest of the batch that images and names of classes form when they are uploaded."""
    return digest_of(manifest_of(images, class_names))


def entry_of(image: EncodedImage) -> BatchEntry:
    """The entry of an image in the batch that it belongs to."""
    return BatchEntry(
        name=image.name or "",
        digest=image.digest,
        size_bytes=len(image.data),
        label=image.label,
        boxes=image.boxes,
        masks=stored_masks(image.masks),
    )


@contextmanager
def open_tensors(
    images: TensorImages, access: AccessRules, *, blobs: BlobReader | None = None
) -> Iterator[tuple[BufferedReader, TensorBatch]]:
    """Open a file of tensors and read its header.

    Args:
        images: The reference to the file.
        access: What may be reached; the limits are those of a batch.
        blobs: Reads `blob:` URIs; they are refused if None.

    Raises:
        InputError: The file cannot be fetched, is not one of images, or the lists of the request do not fit it.
    """
    path = open_resource(
        images.uri,
        access=access,
        field="images.uri",
        limit_bytes=access.limits.batch_bytes,
        sha256=images.sha256,
        blobs=blobs,
    )
    with path.open("rb") as stream:
        size = path.stat().st_size
        batch = open_batch(stream, size=size, limits=access.limits, field="images.uri", declared=images)
        for name in ("labels", "boxes", "masks"):
            given = len(getattr(images, name))
            if given not in {0, batch.images}:
                msg = f"{name} has {given} entries for {batch.images} images; give one per image, or none"
                raise InvalidRequest(msg, field=f"images.{name}")
        yield stream, batch


def require_models(batch: TensorBatch, request: AsksForImages) -> None:
    """Refuse tensors that do not fit the preprocessing that a request declares of a model.

    What a model brings along is known when it is loaded, and each image is then compared with it.

    Raises:
        UndecodableImage: A model takes another input or another normalization; `field` says which.
    """
    for position, (name, reference) in enumerate(request.references):
        declared: Preprocessing | None = getattr(reference, "preprocessing", None)  # the demo model has none
        if declared is not None:
            with blaming_model(name, position):
                require_model(batch, declared, field="model.preprocessing")


def cut_tensors(images: TensorImages, stream: ByteStream, batch: TensorBatch) -> Iterator[EncodedImage]:
    """Yield each image of an open file of tensors, with what the request knows of it."""
    names = batch.names(uri_name(images.uri))
    files = cut(stream, batch, field="images.uri")
    for number, (name, data) in enumerate(zip(names, files, strict=True)):
        yield EncodedImage(
            number,
            name,
            data,
            images.labels[number] if images.labels else None,
            images.boxes[number] if images.boxes else (),
            images.masks[number] if images.masks else (),
        )


def read_uri(image: ImageUri, index: int, access: AccessRules, *, blobs: BlobReader | None = None) -> bytes:
    """The bytes behind an image's URI; of a DICOM file only those that are not about the patient.

    Args:
        image: The image.
        index: Its position in the request.
        access: What may be reached, and how large an image may be.
        blobs: Reads `blob:` URIs; they are refused if None.

    Raises:
        InputError: The image cannot be fetched, or its bytes have another digest than the request says.
    """
    data = read_resource(
        image.uri,
        access=access,
        field=f"images.uris.{index}.uri",
        limit_bytes=access.limits.image_bytes,
        sha256=image.sha256,
        blobs=blobs,
    )
    return bytes_to_keep(data)


def encoded_uri(image: ImageUri, index: int, data: bytes) -> EncodedImage:
    """An image that was fetched from its URI, named after the last part of it."""
    return EncodedImage(index, uri_name(image.uri), data, image.label, image.boxes, image.masks)
