"""Images of a batch by the names that labels, boxes and masks give them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import final

from auditcore.contracts.image_names import NAME_LENGTH
from auditcore_service.use_cases.refusals import InvalidUpload
from auditcore_service.use_cases.text_encoding import composed


@final
class ImageNames:
    """The names of the images of a batch.

    A name may leave out the folder of its image, or have one that the image lacks. Letters with accents are the same in
    their composed form and in the decomposed form of macOS. Where no image has a name, capital letters do not matter.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._composed: dict[str, list[int]] = defaultdict(list)
        self._last: dict[str, list[int]] = defaultdict(list)
        self._bare: dict[str, list[int]] = defaultdict(list)
        self._folded: dict[str, list[int]] = defaultdict(list)
        self._names = [_uniform(name) for name in names]
        for position, name in enumerate(names):
            own = self._names[position]
            self._folded[own.casefold()].append(position)
            self._exact[name].append(position)
            self._composed[own].append(position)
            self._last[_last(own)].append(position)
            if "/" not in own:
                self._bare[own].append(position)

    def positions(self, name: str) -> list[int]:
        """Positions of the images that a name can mean, in order; empty if there is none."""
        given = _uniform(name)
        loose = self._bare.get(_last(given)) if "/" in given else self._last.get(given)
        exact = self._exact.get(name) or self._composed.get(given)
        return exact or loose or self._folded.get(given.casefold()) or []

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

    def known_positions(self, names: Iterable[str], field: str) -> dict[str, int]:
        """Position of each name that is an image; names of other images are left out.

        Args:
            names: The names that a file of a whole dataset has.
            field: Field of the upload that has it, for the error.

        Raises:
            InvalidUpload: Several images have a name, or two names, such as those of two folders, can mean one image.
        """
        found: dict[str, int] = {}
        by_image: dict[int, list[str]] = defaultdict(list)
        for name in dict.fromkeys(names):
            if self.positions(name):
                found[name] = self.position(name, field)
                by_image[found[name]].append(name)
        for position, given in by_image.items():
            closest = min(self._distance(name, position) for name in given)
            meant = [name for name in given if self._distance(name, position) == closest]
            if len({_uniform(name) for name in meant}) > 1:
                first, second = (name[:NAME_LENGTH] for name in meant[:2])
                msg = (
                    f"{field} names {first!r} and {second!r}, which both can mean the image "
                    f"{self._names[position]!r}; upload an archive with these folders, or send only what belongs to "
                    "the batch"
                )
                raise InvalidUpload(msg, field=field)
            # the others are other files of the dataset
            for name in set(given).difference(meant):
                del found[name]
        return found

    def _distance(self, name: str, position: int) -> int:
        """How far a name is from that of an image: 0 if it is the same, 1 except for capital letters, 2 for folders."""
        given, own = _uniform(name), self._names[position]
        return 0 if given == own else 1 if given.casefold() == own.casefold() else 2


def _uniform(name: str) -> str:
    return composed(name).replace("\\", "/").removeprefix("./")


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]
