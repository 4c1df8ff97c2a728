"""Which pictures a page shows, and in what order. Knows no pixels."""

from __future__ import annotations

import base64
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.report import AuditReport, UsedImage

GALLERY_IMAGES = 12
"""Images on a page. With eleven explainers their pictures make it 5 MB long; the others are linked in the report."""

OPEN_ROWS = 4
"""Images that are seen at once; the others unfold, so that the numbers below are not pages away."""

TILES_IN_A_LINE = 8
"""Pictures side by side: 130 px each on a page 1180 px wide."""


@dataclass(frozen=True)
class Tile:
    """One picture.

    Attributes:
        caption: The explainer, or what the photo is.
        alternative: What a reader who does not see the picture is told.
        uri: The picture itself, as a `data:` URI.
    """

    caption: str
    alternative: str
    uri: str


@dataclass(frozen=True)
class Row:
    """An image with its photo and the maps of all explainers.

    Attributes:
        image: The image.
        name: What a reader calls it.
        tiles: The photo, then one map an explainer.
        columns: Tiles in a line, so that the lines are about equally long.
    """

    image: UsedImage
    name: str
    tiles: tuple[Tile, ...]
    columns: int


def gallery_artifacts(report: AuditReport) -> tuple[Artifact, ...]:
    """The pictures a page shows: those of the first `GALLERY_IMAGES` images that have any."""
    first = list(dict.fromkeys(artifact.image for artifact in report.artifacts))[:GALLERY_IMAGES]
    return tuple(artifact for artifact in report.artifacts if artifact.image in first)


def gallery_rows(report: AuditReport, pictures: Mapping[str, bytes]) -> tuple[Row, ...]:
    """Rows of the gallery, in the order of the images.

    Args:
        report: The audit's report.
        pictures: Digest -> bytes of a picture; one that is missing is left out.
    """
    shown = [artifact for artifact in gallery_artifacts(report) if artifact.digest in pictures]
    controls = {explainer.label for explainer in report.plan.explainers if explainer.kind == "random"}
    return tuple(
        _row(image, own, pictures, controls)
        for image in report.images.items
        if (own := [artifact for artifact in shown if artifact.image == image.index])
    )


def _row(
    image: UsedImage, artifacts: Sequence[Artifact], pictures: Mapping[str, bytes], controls: Container[str]
) -> Row:
    name = image.name or f"image {image.index}"
    lines = -(-len(artifacts) // TILES_IN_A_LINE)
    return Row(
        image=image,
        name=name,
        tiles=tuple(_tile(artifact, pictures[artifact.digest], name, controls) for artifact in artifacts),
        columns=-(-len(artifacts) // lines),
    )


def _tile(artifact: Artifact, data: bytes, name: str, controls: Container[str]) -> Tile:
    uri = f"data:{artifact.media_type};base64,{base64.b64encode(data).decode()}"
    explainer = artifact.explainer
    if explainer is None:
        return Tile("as the model sees it", f"Photo {name}", uri)
    return Tile(
        f"{explainer} (control)" if explainer in controls else explainer, f"Map of {explainer} over {name}", uri
    )
