"""`/v1/image-batches`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, final

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.datastructures import FormData, UploadFile

from auditcore.contracts.image_names import short_name
from auditcore.contracts.images import BatchManifest
from auditcore.contracts.masks import MASK_BYTES
from auditcore.errors import LimitExceeded
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    QUOTA_OF_BYTES,
    TOO_MANY_REQUESTS,
    json_example,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.principals import Auditor, Reader, Remover
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.schemas import ImageBatch
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread
from auditcore_service.use_cases.annotations import GivenAnnotations, MaskFile
from auditcore_service.use_cases.image_batches import UploadedFile
from auditcore_service.use_cases.refusals import InvalidUpload, UnsupportedUpload
from auditcore_service.use_cases.text_encoding import decode_text

router = APIRouter(prefix="/v1/image-batches", tags=["image batches"], route_class=CheckedBodies)

ANNOTATION_BYTES = 6 * 2**20
"""Ten thousand names of 255 characters, each with a label or with ten boxes, fit."""

_TEXTS = ("labels", "boxes", "masks", "annotations", "classes", "box_format", "labels_from_folders")
_LISTED_TEXTS = ", ".join(f"`{name}`" for name in _TEXTS if name != "masks")

_DIGEST = f"sha256:{'0' * 64}"

BATCH_EXAMPLE = {
    "digest": _DIGEST,
    "images": 1,
    "size_bytes": 240512,
    "entries": [
        {
            "name": "cat.png",
            "digest": _DIGEST,
            "size_bytes": 240512,
            "label": 285,
            "boxes": [{"x0": 10, "y0": 20, "x1": 110, "y1": 90, "label": 285}],
        }
    ],
}

_NO_FORM = "send the images as multipart/form-data, in parts called `images` or one zip called `archive`"

_NO_BATCH = problem_example(
    404, "not_found", f"no image batch {_DIGEST} is stored; upload it with POST /v1/image-batches"
)
_DELETED_BATCH = problem_example(
    410,
    "deleted",
    f"the image batch {_DIGEST} was deleted at 2026-11-22T12:00:00.000Z by ci@example.org; upload it with "
    "POST /v1/image-batches again",
)

BINARY = {"type": "string", "format": "binary"}
"""OpenAPI 3.1 needs no `format` beside a media type, but generators of clients know a file only by it."""

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "images": {
                            "type": "array",
                            "items": {**BINARY, "contentMediaType": "application/octet-stream"},
                            "description": "Image files: PNG, JPEG, WebP, BMP, TIFF, GIF, .npy, or DICOM (only "
                            "pixels are kept). Or tensors ready for the model: a safetensors file with one tensor "
                            "(N,C,H,W) becomes N images, `name-0.safetensors` and so on. Its metadata may have "
                            "`mean`, `std` and `names` as JSON, and `tensor`, the name of the tensor to read.",
                        },
                        "archive": {
                            **BINARY,
                            "contentMediaType": "application/zip",
                            "description": "One zip of image files; they follow `images` in the order of the archive. "
                            "Hidden files and files that operating systems add, such as `.DS_Store`, `Thumbs.db` and "
                            "`__MACOSX`, are skipped. A file with another ending than that of an image is an image if "
                            "it begins like one; else it is listed in `passed_over`.",
                        },
                        "labels": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "A list with one entry per image, or an object from file name to entry. An "
                            "entry is a class, a list of classes for a multi-label model, or null; a class is an "
                            "index, or a name in `classes`. Or a CSV table of file name and label.",
                            "examples": ["[285, null, [3, 17]]", '{"cat.png": 285}'],
                        },
                        "boxes": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "Where objects are, for the check `localization`: a list with one entry per "
                            "image, or an object from file name to entry. An entry is a list of boxes, or null. A box "
                            "is `[x0, y0, x1, y1]` or an object with these keys and optionally `label`, the class it "
                            "counts for. Columns x0 to x1 and rows y0 to y1 are pixels of the original image, before "
                            "any resizing, counted from 0, ends excluded. Declare another meaning of four numbers as "
                            "`box_format`. Pascal VOC counts from 1, ends included: send "
                            "`[xmin - 1, ymin - 1, xmax, ymax]`. An annotation file of COCO is read too.",
                            "examples": [
                                "[[[10, 20, 110, 90]], null]",
                                '{"cat.png": [{"x0": 10, "y0": 20, "x1": 110, "y1": 90, "label": 285}]}',
                            ],
                        },
                        "box_format": {
                            "type": "string",
                            "enum": ["xyxy", "xywh", "relative", "yolo"],
                            "description": "What the four numbers of a box are: corners in pixels (`xyxy`, default); "
                            "x, y, width, height in pixels (`xywh`, as in COCO); corners relative to the image "
                            "(`relative`); or center x, center y, width, height relative to the image (`yolo`), "
                            "with the class in front if there are five.",
                        },
                        "masks": {
                            "description": "Pixels of objects, for the check `localization`. PNG files of the size of "
                            "their image, named after it (`cat.png` or `cat_mask.png` for `cat.jpg`), in which pixels "
                            "that are not 0 belong to the object; repeatable. Or JSON like `boxes`, where a mask is "
                            "the corners `[x0, y0, x1, y1, ...]` of a polygon, or an object with `polygons`, `rle` "
                            "(COCO) or `png` (base64) and optionally `label`. Or an annotation file of COCO.",
                            "anyOf": [
                                {"type": "string", "contentMediaType": "application/json"},
                                {"type": "array", "items": {**BINARY, "contentMediaType": "image/png"}},
                            ],
                        },
                        "annotations": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "An annotation file of COCO: boxes, masks and, with `classes`, labels. Or a "
                            "CSV table of file name and label. Images that are not in the batch are left out.",
                        },
                        "classes": {
                            "type": "string",
                            "description": "Names of the model's classes in order: a JSON list, or one per line. "
                            "Labels, boxes, masks and categories of COCO may then name a class.",
                            "examples": ['["cat", "dog"]'],
                        },
                        "labels_from_folders": {
                            "type": "string",
                            "enum": ["true", "false"],
                            "description": "Whether the folder of an image in the archive is its class: one of "
                            "`classes`, or the folders in alphabetical order. If the archive has folders in the "
                            "folders of classes, send `classes`.",
                        },
                    },
                },
                "encoding": {
                    "labels": {"contentType": "application/json"},
                    "boxes": {"contentType": "application/json"},
                },
            }
        },
    }
}


@final
@dataclass(frozen=True)
class Upload:
    """The parts of a form, spooled to disk but not yet read."""

    images: tuple[UploadedFile, ...]
    archive: UploadedFile | None
    annotations: GivenAnnotations


async def _upload(request: Request, service: ServiceDep) -> AsyncIterator[Upload]:
    """Parse the form; asynchronous because its bytes arrive that way."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise UnsupportedUpload(_NO_FORM, field="Content-Type")
    async with request.form(
        # a little more than allowed, so that the message is that of the batch's own limit
        max_files=2 * service.settings.batch_images + 2,
        max_fields=len(_TEXTS) + 2,
        max_part_size=ANNOTATION_BYTES,
    ) as form:
        yield await _sorted(form, mask_files=service.settings.batch_images)


async def _sorted(form: FormData, *, mask_files: int) -> Upload:
    files: dict[str, list[UploadedFile]] = {"images": [], "archive": []}
    texts: dict[str, str] = {}
    masks: list[MaskFile] = []
    for name, value in form.multi_items():
        if name == "masks" and isinstance(value, UploadFile) and not _is_json(value):
            if len(masks) >= mask_files:
                raise LimitExceeded(
                    what="the batch", limit=mask_files, actual=len(masks) + 1, unit="masks", field="masks"
                )
            name_of_mask = short_name((value.filename or "").replace("\\", "/"))
            masks.append(MaskFile(name_of_mask, await value.read(MASK_BYTES + 1)))
        elif name in _TEXTS:
            if name in texts:
                msg = f"the form has more than one part {name}; send one for all images"
                raise InvalidUpload(msg, field=name)
            texts[name] = await _text(name, value) if isinstance(value, UploadFile) else value
        elif name not in files or not isinstance(value, UploadFile):
            known = "`images` (files), `archive` (one zip), `masks` (PNG files, or JSON)"
            msg = f"the form has an unexpected part {name[:64]!r}; the parts are {known} and {_LISTED_TEXTS}"
            raise InvalidUpload(msg, field="")
        else:
            field = f"{name}.{len(files[name])}"
            files[name].append(UploadedFile(value.filename or field, value.file, field))
    if len(files["archive"]) > 1:
        msg = "the form has more than one archive; send one, or several batches"
        raise InvalidUpload(msg, field="archive")
    from_folders = texts.pop("labels_from_folders", "false")
    if from_folders not in {"true", "false"}:
        msg = f"labels_from_folders is {from_folders[:64]!r}; send true or false"
        raise InvalidUpload(msg, field="labels_from_folders")
    return Upload(
        images=tuple(files["images"]),
        archive=next(iter(files["archive"]), None),
        annotations=GivenAnnotations(**texts, mask_files=tuple(masks), from_folders=from_folders == "true"),
    )


def _is_json(file: UploadFile) -> bool:
    return (file.filename or "").lower().endswith(".json") or file.content_type == "application/json"


async def _text(name: str, file: UploadFile) -> str:
    """Labels or boxes sent as a file; no larger than as a plain field, where the parser counts."""
    data = await file.read(ANNOTATION_BYTES + 1)
    if len(data) > ANNOTATION_BYTES:
        raise LimitExceeded(what=name, limit=ANNOTATION_BYTES, actual=file.size or len(data), unit="bytes", field=name)
    try:
        return decode_text(data)
    except UnicodeDecodeError as error:
        msg = (
            f"{name} is not a text file in UTF-8 or UTF-16 ({error.reason}); save it as UTF-8, in Excel as `CSV UTF-8`"
        )
        raise InvalidUpload(msg, field=name) from error


@router.post(
    "",
    status_code=201,
    operation_id="uploadImageBatch",
    summary="Upload images",
    openapi_extra=UPLOAD_BODY,
    responses={
        201: json_example(
            BATCH_EXAMPLE, headers={"Location": {"description": "The batch.", "schema": {"type": "string"}}}
        ),
        **problem_responses(
            CONTENT_TOO_LARGE,
            TOO_MANY_REQUESTS,
            QUOTA_OF_BYTES,
            problem_example(415, "unsupported_media_type", _NO_FORM, pointer="#/Content-Type"),
            problem_example(
                422,
                "invalid_upload",
                "labels has 1 entries for 2 images; send one entry per image, null if unknown",
                pointer="#/labels",
            ),
        ),
    },
)
async def store(
    principal: Auditor,  # first, so that nobody else's upload is read
    upload: Annotated[Upload, Depends(_upload)],
    response: Response,
    service: ServiceDep,
    threads: ThreadsDep,
) -> ImageBatch:
    """Store images by content. The same images, names and annotations always give the same digest."""
    stored = await in_thread(
        threads.slow,
        service.batches.store,
        principal,
        upload.images,
        archive=upload.archive,
        annotations=upload.annotations,
    )
    response.headers["Location"] = f"/v1/image-batches/{stored.digest}"
    return _batch(stored.digest, stored.manifest, stored.passed_over)


@router.get(
    "/{digest}",
    operation_id="getImageBatch",
    summary="What a batch holds",
    responses={
        200: json_example(BATCH_EXAMPLE),
        **problem_responses(_NO_BATCH, _DELETED_BATCH),
    },
)
def get(
    digest: Annotated[str, Path(description="From the answer to POST /v1/image-batches.")],
    service: ServiceDep,
    principal: Reader,
) -> ImageBatch:
    """Names, digests, sizes, labels and boxes, in order."""
    return _batch(digest, service.batches.get(principal, digest))


@router.delete(
    "/{digest}",
    status_code=204,
    operation_id="deleteImageBatch",
    summary="Delete a batch",
    responses=problem_responses(
        _NO_BATCH,
        _DELETED_BATCH,
        problem_example(
            409,
            "used_by_audit",
            f"audit 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11 needs the image batch {_DIGEST} and has not ended; wait for "
            "it or cancel it first",
        ),
    ),
)
def delete(
    digest: Annotated[str, Path(description="From the answer to POST /v1/image-batches.")],
    service: ServiceDep,
    principal: Remover,
) -> None:
    """Images that no other batch holds are collected within hours. Audits that used the batch cannot be replayed."""
    service.deletions.batch(principal, digest)


def _batch(digest: str, manifest: BatchManifest, passed_over: tuple[str, ...] = ()) -> ImageBatch:
    return ImageBatch(
        digest=digest,
        images=len(manifest.entries),
        size_bytes=sum(entry.size_bytes for entry in manifest.entries),
        entries=manifest.entries,
        class_names=manifest.class_names,
        passed_over=passed_over,
    )
