"""`/v1/maps`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, File, UploadFile

from auditcore.contracts.map_files import StoredMaps
from auditcore_service.gateway.routes.service import ServiceDep

router = APIRouter(prefix="/v1/maps", tags=["maps"])


@router.post("", status_code=201, operation_id="uploadMaps", summary="Upload maps that somebody else made")
def store(
    maps: Annotated[
        UploadFile,
        File(
            description="Maps of the model's input, S x S pixels, signed or not, in the safetensors format: a tensor "
            "`maps` (N,S,S) or (N,3,S,S) in the order of an image batch, and perhaps `targets` (N,) int64, the class "
            "each explains; or a tensor an image, named after the digest of the image file."
        ),
    ],
    service: ServiceDep,
) -> StoredMaps:
    """Store heat maps, such as those a product shows, to be audited by an explainer of kind `precomputed`.

    They are audited by every check that needs the map of the image alone: deletion, EDDA, pixel flipping, insertion and
    deletion, ROAD, infidelity, localization and complexity. Checks that explain changed copies are not applicable.
    """
    return service.maps.store(maps.file)
