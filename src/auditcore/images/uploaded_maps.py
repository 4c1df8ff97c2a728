"""Uploaded maps, one per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.map_files import MAPS, TARGETS, MapFile, read_map_layout, targets_of
from auditcore.contracts.plan import AuditPlan
from auditcore.errors import MapsInvalid
from auditcore.tensor_files import Layout, TensorPlace

NO_MAP = "no map was uploaded for this image"
NOT_FINITE = "the uploaded map contains NaN or infinite values"

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}


@final
@dataclass(frozen=True)
class MapRows:
    """The maps of the rows of a group.

    Attributes:
        maps: (N,C,H,W), float32; zeros for rows without a map.
        missing: Row -> why it has no map.
    """

    maps: Float[Tensor, "image channel height width"]
    missing: Mapping[int, str]

    def take(self, rows: Sequence[int]) -> MapRows:
        """Return the maps of some rows."""
        missing = {new: self.missing[row] for new, row in enumerate(rows) if row in self.missing}
        return MapRows(self.maps[list(rows)], missing)


@final
class UploadedMaps:
    """A file of maps; a map is read when it is needed.

    Attributes:
        file: The contents of its header.
    """

    def __init__(self, data: bytes, *, field: str) -> None:
        """Read the header.

        Raises:
            MapsInvalid: The bytes are not a file of maps.
        """
        self.file: MapFile
        self._layout: Layout
        self._data = data
        self._field = field
        self.file, self._layout = read_map_layout(data, field=field)
        self._targets = {} if self.file.ordered else targets_of(self._layout, field=field)

    def rows(
        self, indices: Sequence[int], digests: Sequence[str], targets: Sequence[int], *, shape: InputShape
    ) -> MapRows:
        """Return the maps of some images, one target class per image.

        Args:
            indices: Index of each image in its batch.
            digests: Digest of each image file.
            targets: Class that the audit explains for each image.
            shape: Channels, height and width of the model's input.

        Raises:
            MapsInvalid: The size of the maps is not that of the model's input.
        """
        file = self.file
        if file.channels not in {1, shape.channels} or (file.height, file.width) != (shape.height, shape.width):
            given = InputShape(shape.channels if file.channels == 1 else file.channels, file.height, file.width)
            msg = (
                f"the maps are {given}, but the model's input is {shape}; upload maps of the model's input, after "
                "resizing and cropping"
            )
            raise MapsInvalid(msg, field=self._field)
        maps = torch.zeros(len(indices), file.channels, file.height, file.width)
        missing: dict[int, str] = {}
        for row, (index, digest, target) in enumerate(zip(indices, digests, targets, strict=True)):
            found = self._map(index, digest, target)
            if isinstance(found, str):
                missing[row] = found
            else:
                maps[row] = torch.from_numpy(found)
        return MapRows(maps, missing)

    def _map(self, index: int, digest: str, target: int) -> NDArray[np.float32] | str:
        """Return one map, or the reason why there is none."""
        if self.file.ordered:
            if index >= self.file.images:
                return NO_MAP
            values = self._values(self._layout.tensors[MAPS])[index]
            explained = int(self._values(self._layout.tensors[TARGETS])[index]) if self.file.targeted else None
        else:
            if digest not in self._layout.tensors:
                return NO_MAP
            values, explained = self._values(self._layout.tensors[digest]), self._targets.get(digest)
        if explained is not None and explained != target:
            return f"the uploaded map explains class {explained}, but the audit explains class {target}"
        if not np.isfinite(values).all():
            return NOT_FINITE
        return np.array(values, np.float32).reshape(self.file.channels, self.file.height, self.file.width)

    def _values(self, place: TensorPlace) -> NDArray[np.generic]:
        """Return a view of a tensor's values, without a copy."""
        raw = np.frombuffer(self._data, dtype=np.uint8)[place.start : place.stop]
        return raw.view(_TYPES[place.dtype]).reshape(place.shape)


def uploaded_maps(plan: AuditPlan, blobs: Callable[[str], bytes]) -> dict[str, UploadedMaps]:
    """Return the files of maps that a plan names, by digest.

    Args:
        plan: Its explainers name the files.
        blobs: From a digest to the bytes of that digest.

    Raises:
        InputError: Nothing is stored under a digest, or it is not a file of maps.
    """
    return {
        digest: UploadedMaps(blobs(digest), field=f"plan.explainers.{position}.maps")
        for position, digest in enumerate(explainer.uploaded_maps for explainer in plan.explainers)
        if digest is not None
    }
