"""Uploaded maps: what a file of them holds, as far as its header says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import final

from pydantic import Field

from auditcore.contracts.contract import Contract, Sha256
from auditcore.errors import MapsInvalid
from auditcore.tensor_files import Layout, TensorFileInvalid, TensorPlace, read_layout

FIELD = "maps"
MAPS, TARGETS = "maps", "targets"
"""Names of the tensors of a file whose maps follow the order of an image batch."""

_FLOATS = frozenset({"F16", "F32", "F64"})
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MOST_SIDE_PX = 4096


@final
class MapFile(Contract):
    """What a file of maps holds.

    Attributes:
        images: Number of maps.
        side: Height and width of each, in pixels.
        channels: 1, or 3 where each channel has its own.
        ordered: Whether maps follow the order of the batch, as one tensor; else each is named after its image.
        targeted: Whether the file says which class each map explains.
    """

    images: int
    side: int
    channels: int
    ordered: bool
    targeted: bool


@final
class StoredMaps(Contract):
    """Uploaded maps, by their digest.

    Attributes:
        size_bytes: Size of the file.
        file: What it holds.
    """

    digest: Sha256 = Field(description='What a plan names: {"kind": "precomputed", "maps": "sha256:..."}.')
    size_bytes: int
    file: MapFile


def read_map_layout(data: bytes, *, size: int | None = None, field: str = FIELD) -> tuple[MapFile, Layout]:
    """Look at the header of a file of maps.

    The file is in the safetensors format. Either one tensor `maps`, (N,S,S) or (N,C,S,S), in the order of the batch,
    and perhaps `targets`, (N,) int64; or one tensor an image, (S,S) or (C,S,S), named after the image's digest
    `sha256:...`, and perhaps a JSON object of classes by digest under the metadata `targets`. C is 1 or 3.

    Args:
        data: The file, or at least its header.
        size: Bytes of the whole file; those of `data` if None.
        field: Path in the request, for errors.

    Raises:
        MapsInvalid: It is something else.
    """
    try:
        layout = read_layout(data, size=size)
    except TensorFileInvalid as error:
        msg = f"the file holds no maps in the safetensors format: {error}"
        raise MapsInvalid(msg, field=field) from error
    if MAPS in layout.tensors:
        return _ordered(layout, field), layout
    return _named(layout, field), layout


def targets_of(layout: Layout, *, field: str = FIELD) -> Mapping[str, int]:
    """Classes that maps named after their images say they explain; empty where the file does not say.

    Raises:
        MapsInvalid: The metadata are no such object.
    """
    text = layout.metadata.get(TARGETS)
    if text is None:
        return {}
    try:
        found = json.loads(text)
        return {str(name): int(target) for name, target in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        msg = 'the metadata `targets` must be a JSON object of classes by image, such as {"sha256:...": 285}'
        raise MapsInvalid(msg, field=field) from error


def _ordered(layout: Layout, field: str) -> MapFile:
    others = set(layout.tensors) - {MAPS, TARGETS}
    if others:
        msg = f"beside `maps` a file may hold `targets` alone, and this one holds {min(others)!r} too"
        raise MapsInvalid(msg, field=field)
    place = layout.tensors[MAPS]
    images, *rest = place.shape or (0,)
    channels, side = _extent(place, tuple(rest), MAPS, field)
    targets = layout.tensors.get(TARGETS)
    if targets is not None and (targets.dtype != "I64" or targets.shape != (images,)):
        msg = f"`targets` must be ({images},) int64, one class a map; it is {targets.shape} {targets.dtype}"
        raise MapsInvalid(msg, field=field)
    if images == 0:
        msg = "`maps` holds no map; give one an image"
        raise MapsInvalid(msg, field=field)
    return MapFile(images=images, side=side, channels=channels, ordered=True, targeted=targets is not None)


def _named(layout: Layout, field: str) -> MapFile:
    extents = set()
    for name, place in layout.tensors.items():
        if not _DIGEST.fullmatch(name):
            msg = (
                f"tensor {name[:80]!r} is neither `maps` nor named after an image; name it by the digest of the image "
                "file, as the answer to POST /v1/image-batches lists it"
            )
            raise MapsInvalid(msg, field=field)
        extents.add(_extent(place, place.shape, name, field))
    if len(extents) != 1:
        msg = "all maps of a file must have one size" if extents else "the file holds no map"
        raise MapsInvalid(msg, field=field)
    ((channels, side),) = extents
    targets = targets_of(layout, field=field)
    return MapFile(images=len(layout.tensors), side=side, channels=channels, ordered=False, targeted=bool(targets))


def _extent(place: TensorPlace, shape: tuple[int, ...], name: str, field: str) -> tuple[int, int]:
    """Channels and side of a map of this shape."""
    channels, height, width = shape if len(shape) == 3 else (1, *shape) if len(shape) == 2 else (0, 0, 0)  # noqa: PLR2004 - axes
    if channels not in {1, 3} or height != width or not 1 <= height <= MOST_SIDE_PX or place.dtype not in _FLOATS:
        msg = (
            f"{name[:80]!r} is {place.shape} {place.dtype}; a map is (S,S), (1,S,S) or (3,S,S) of float16, float32 or "
            "float64, S being the side of the model's input"
        )
        raise MapsInvalid(msg, field=field)
    return channels, height
