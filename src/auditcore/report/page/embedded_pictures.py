"""Pictures inside the page: those of the worst images first, until a budget is used."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.report import AuditReport
from auditcore.report.worst_images import RankedImage

PICTURE_BYTES: Final = 1_900_000
"""Bytes of all pictures as `data:` URIs. A page should stay below 3 MB, so that it can be mailed and opens at once;
without pictures, that of 100 images and 8 explainers has less than 1 MB."""

ReadPicture = Callable[[str], bytes | None]
"""Bytes of a picture by its digest; None if it is no longer stored."""


@dataclass(frozen=True)
class SingleMap:
    """A map that has a file of its own, in color over the photo; from a report of an earlier version.

    Attributes:
        explainer: Whose map it is.
        uri: The picture as a `data:` URI.
    """

    explainer: str
    uri: str


@dataclass(frozen=True)
class Pictures:
    """The pictures of one image for one model.

    Attributes:
        photo: The image as the model sees it, as a `data:` URI; None if it is missing.
        maps: Gray maps of all explainers, one below the other, as a `data:` URI; None if there are none.
        explainers: Those of `maps`, from top to bottom.
        flat: Those of them whose map is constant, so that it points nowhere.
        singles: Maps with files of their own.
    """

    photo: str | None
    maps: str | None
    explainers: tuple[str, ...]
    flat: tuple[str, ...]
    singles: tuple[SingleMap, ...]

    @property
    def size(self) -> int:
        """Length of all URIs."""
        return len(self.photo or "") + len(self.maps or "") + sum(len(one.uri) for one in self.singles)


ImageKey = tuple[int, str | None]
"""Index of an image in the batch, and name of the model in an audit of several."""


def embedded_pictures(
    report: AuditReport,
    ranked: Mapping[str | None, Sequence[RankedImage]],
    read: ReadPicture,
    *,
    budget: int = PICTURE_BYTES,
) -> dict[ImageKey, Pictures]:
    """Read the pictures of the worst images of every model, then of the next ones, until the budget is used.

    Args:
        report: The audit's report.
        ranked: Model -> its images, the worst first.
        read: Called for one image after the other, and not again once the budget is used.
        budget: Largest length of all URIs together.

    Returns:
        Image and model -> its pictures. The first image whose pictures do not fit ends the list, so that the images
        with pictures are always the first ones.
    """
    own: dict[ImageKey, list[Artifact]] = {}
    for artifact in report.artifacts:
        own.setdefault((artifact.image, artifact.model), []).append(artifact)
    found: dict[ImageKey, Pictures] = {}
    left = budget
    for key in _in_turn(ranked):
        pictures = _pictures(own.get(key, ()), read)
        if pictures is None:
            continue
        left -= pictures.size
        if left < 0:
            break
        found[key] = pictures
    return found


def _in_turn(ranked: Mapping[str | None, Sequence[RankedImage]]) -> Iterator[ImageKey]:
    """The worst image of every model, then the second worst."""
    for same_rank in zip_longest(*ranked.values()):
        for model, one in zip(ranked, same_rank, strict=True):
            if one is not None:
                yield one.image.index, model


def _pictures(artifacts: Sequence[Artifact], read: ReadPicture) -> Pictures | None:
    """The pictures of one image that are still stored; None without any."""
    photo, maps, singles = None, None, []
    explainers: tuple[str, ...] = ()
    flat: tuple[str, ...] = ()
    for artifact in artifacts:
        data = read(artifact.digest)
        if data is None:
            continue
        uri = f"data:{artifact.media_type};base64,{base64.b64encode(data).decode()}"
        if artifact.explainers:
            maps, explainers, flat = uri, artifact.explainers, artifact.flat
        elif artifact.explainer is not None:
            singles.append(SingleMap(artifact.explainer, uri))
        else:
            photo = uri
    found = Pictures(photo, maps, explainers, flat, tuple(singles))
    return found if found.size else None
