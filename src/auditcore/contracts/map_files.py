"""Files of uploaded maps: reading and checking their headers."""

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
    """Contents of a file of maps.

    Attributes:
        images: Number of maps.
        channels: 1, or that of the model's input if each channel has its own map.
        height: Height of each map, in pixels.
        width: Width of each map, in pixels.
        ordered: Whether the maps are one tensor in the order of the batch; else each is named after its image.
        targeted: Whether the file says which class each map explains.
    """

    images: int
    channels: int
    height: int
    width: int
    ordered: bool
    targeted: bool


@final
class StoredMaps(Contract):
    """Uploaded maps, by their digest.

    Attributes:
        size_bytes: Size of the file.
        file: What it holds.
    """

    digest: Sha256 = Field(description='Digest to use in a plan: {"kind": "precomputed", "maps": "sha256:..."}.')
    size_bytes: int
    file: MapFile


def read_map_layout(data: bytes, *, size: int | None = None, field: str = FIELD) -> tuple[MapFile, Layout]:
    """Read and check the header of a file of maps.

    The file is in the safetensors format. It contains either one tensor `maps`, (N,H,W) or (N,C,H,W), in the order of
    the batch, and optionally `targets`, (N,) int64. Or it contains one tensor per image, (H,W) or (C,H,W), named after
    the image's digest `sha256:...`, and optionally a JSON object of classes by digest under the metadata `targets`. C
    is 1, or the number of the model's channels.

    Args:
        data: The file, or at least its header.
        size: Size of the whole file in bytes; that of `data` if None.
        field: Path in the request, for errors.

    Raises:
        MapsInvalid: The file does not have this form.
    """
    try:
        layout = read_layout(data, size=size)
    except TensorFileInvalid as error:
        msg = f"the file does not contain maps in the safetensors format: {error}"
        raise MapsInvalid(msg, field=field) from error
    if MAPS in layout.tensors:
        return _ordered(layout, field), layout
    return _named(layout, field), layout


def targets_of(layout: Layout, *, field: str = FIELD) -> Mapping[str, int]:
    """Return the explained classes of maps that are named after their images; empty if the file does not list them.

    Raises:
        MapsInvalid: The metadata `targets` is not a JSON object of classes.
    """
    text = layout.metadata.get(TARGETS)
    if text is None:
        return {}
    try:
        found = json.loads(text)
        return {str(name): int(target) for name, target in found.items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        msg = 'the metadata `targets` must be a JSON object of classes by image, such as {"sha256:...": 285}'
        raise MapsInvalid(msg, field=field) from error


def _ordered(layout: Layout, field: str) -> MapFile:
    others = set(layout.tensors) - {MAPS, TARGETS}
    if others:
        msg = f"the file contains a tensor {min(others)!r}; with `maps`, it may contain only `targets`"
        raise MapsInvalid(msg, field=field)
    place = layout.tensors[MAPS]
    images, *rest = place.shape or (0,)
    channels, height, width = _extent(place, tuple(rest), MAPS, field)
    targets = layout.tensors.get(TARGETS)
    if targets is not None and (targets.dtype != "I64" or targets.shape != (images,)):
        msg = f"`targets` must be ({images},) int64, one class per map; it is {targets.shape} {targets.dtype}"
        raise MapsInvalid(msg, field=field)
    if images == 0:
        msg = "`maps` is empty; add one map per image"
        raise MapsInvalid(msg, field=field)
    return MapFile(
        images=images, channels=channels, height=height, width=width, ordered=True, targeted=targets is not None
    )


def _named(layout: Layout, field: str) -> MapFile:
    extents = set()
    for name, place in layout.tensors.items():
        if not _DIGEST.fullmatch(name):
            msg = (
                f"tensor {name[:80]!r} is neither `maps` nor named after an image; name it by the digest of the image "
                "file, as listed in the answer to POST /v1/image-batches"
            )
            raise MapsInvalid(msg, field=field)
        extents.add(_extent(place, place.shape, name, field))
    if len(extents) != 1:
        msg = "all maps of a file must have the same size" if extents else "the file contains no map"
        raise MapsInvalid(msg, field=field)
    ((channels, height, width),) = extents
    targets = targets_of(layout, field=field)
    return MapFile(
        images=len(layout.tensors),
        channels=channels,
        height=height,
        width=width,
        ordered=False,
        targeted=bool(targets),
    )


def _extent(place: TensorPlace, shape: tuple[int, ...], name: str, field: str) -> tuple[int, int, int]:
    """Return channels, height and width of a map of this shape."""
    channels, height, width = shape if len(shape) == 3 else (1, *shape) if len(shape) == 2 else (0, 0, 0)  # noqa: PLR2004 - axes
    if channels < 1 or not min(height, width) >= 1 or max(height, width) > MOST_SIDE_PX or place.dtype not in _FLOATS:
        msg = (
            f"{name[:80]!r} is {place.shape} {place.dtype}; a map is (H,W) or (C,H,W) of float16, float32 or float64, "
            "where H and W are the height and width of the model's input, and C is 1 or the number of its channels"
        )
        raise MapsInvalid(msg, field=field)
    return channels, height, width
