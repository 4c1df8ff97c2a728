"""`/v1/maps`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, Path, UploadFile

from auditcore.contracts.map_files import StoredMaps
from auditcore_service.gateway.problem_responses import (
    CONTENT_TOO_LARGE,
    QUOTA_OF_BYTES,
    TOO_MANY_REQUESTS,
    json_example,
    problem_example,
    problem_responses,
)
from auditcore_service.gateway.request_bodies import CheckedBodies
from auditcore_service.gateway.routes.principals import Auditor, Remover
from auditcore_service.gateway.routes.service import ServiceDep
from auditcore_service.gateway.thread_limits import ThreadsDep, in_thread

router = APIRouter(prefix="/v1/maps", tags=["maps"], route_class=CheckedBodies)

_DIGEST = f"sha256:{'0' * 64}"

MAPS_EXAMPLE = {
    "digest": _DIGEST,
    "size_bytes": 802944,
    "file": {"images": 4, "channels": 1, "height": 224, "width": 224, "ordered": True, "targeted": False},
}


@router.post(
    "",
    status_code=201,
    operation_id="uploadMaps",
    summary="Upload maps from elsewhere",
    responses={
        201: json_example(MAPS_EXAMPLE),
        **problem_responses(
            CONTENT_TOO_LARGE,
            TOO_MANY_REQUESTS,
            QUOTA_OF_BYTES,
            problem_example(
                422,
                "maps_invalid",
                "the file is not in the safetensors format; write it with safetensors.numpy.save_file",
                pointer="#/maps",
            ),
        ),
    },
)
async def store(
    maps: Annotated[
        UploadFile,
        File(
            # generators of clients know a file only by its format
            json_schema_extra={"format": "binary"},
            description="Maps of the model's input, S x S pixels, signed or not, in the safetensors format: a tensor "
            "`maps` (N,S,S) or (N,3,S,S) in the order of an image batch, and optionally `targets` (N,) int64, the "
            "class that each explains; or one tensor per image, named after the digest of the image file.",
        ),
    ],
    service: ServiceDep,
    threads: ThreadsDep,
    principal: Auditor,
) -> StoredMaps:
    """Store heat maps, such as those a product shows, to be audited by an explainer of kind `precomputed`.

    Every check that needs only the map of the original image audits them. Checks that explain perturbed images are not
    applicable, because there is no explainer to make those maps.
    """
    return await in_thread(threads.slow, service.maps.store, principal, maps.file)


@router.delete(
    "/{digest}",
    status_code=204,
    operation_id="deleteMaps",
    summary="Delete a file of maps",
    responses=problem_responses(
        problem_example(404, "not_found", f"no file of maps {_DIGEST} is stored; upload it with POST /v1/maps"),
        problem_example(
            410,
            "deleted",
            f"the file of maps {_DIGEST} was deleted at 2026-11-22T12:00:00.000Z by ci@example.org; upload it with "
            "POST /v1/maps again",
        ),
        problem_example(
            409,
            "used_by_audit",
            f"audit 0b6f5c1e-3a52-4f0e-9c77-1f2f0a8f4d11 needs the file of maps {_DIGEST} and has not ended; wait "
            "for it or cancel it first",
        ),
    ),
)
def delete(
    digest: Annotated[str, Path(description="From the answer to POST /v1/maps.")],
    service: ServiceDep,
    principal: Remover,
) -> None:
    """The file is collected within hours. Audits that used it keep their reports and cannot be replayed."""
    service.deletions.maps(principal, digest)
