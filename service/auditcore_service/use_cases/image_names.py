"""Images of a batch by the names that labels, boxes and masks give them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import final

from auditcore.contracts.image_names import NAME_LENGTH
from auditcore_service.use_cases.refusals import InvalidUpload


@final
class ImageNames:
    """The names of the images of a batch.

    A name may leave out the folder of its image, or have one that the image lacks. Letters with accents are the same in
    their composed form and in the decomposed form of macOS.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._composed: dict[str, list[int]] = defaultdict(list)
        self._last: dict[str, list[int]] = defaultdict(list)
        self._bare: dict[str, list[int]] = defaultdict(list)
        for position, name in enumerate(names):
            composed = _composed(name)
            self._exact[name].append(position)
            self._composed[composed].append(position)
            self._last[_last(composed)].append(position)
            if "/" not in composed:
                self._bare[composed].append(position)

    def positions(self, name: str) -> list[int]:
        """Positions of the images that a name can mean, in order; empty if there is none."""
        composed = _composed(name)
        loose = self._bare.get(_last(composed)) if "/" in composed else self._last.get(composed)
        return self._exact.get(name) or self._composed.get(composed) or loose or []

    def position(self, name: str, field: str) -> int:
        """Position of the image that has a name.

        Args:
            name: The name.
            field: Field of the upload that has it, for the error.

        Raises:
            InvalidUpload: No image or several images have the name.
        """
        found = self.positions(name)
        if len(found) != 1:
            what = "no image" if not found else f"{len(found)} images"
            msg = f"{field} names {name[:NAME_LENGTH]!r}, the name of {what} of the batch; send a list instead"
            raise InvalidUpload(msg, field=field)
        return found[0]


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\\", "/").removeprefix("./")


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]
