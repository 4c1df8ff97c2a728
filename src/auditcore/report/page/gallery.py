"""Which pictures a page shows, and in what order. Knows no pixels."""

from __future__ import annotations

import base64
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from auditcore.contracts.artifacts import Artifact
from auditcore.contracts.report import AuditReport, UsedImage
from auditcore.contracts.shards import ExplainedClass

GALLERY_IMAGES = 12
"""Images on a page, times models. With eleven explainers their pictures make it 5 MB long; the others are linked in the
report."""

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
    """An image with its photo and the maps of all explainers of one model.

    Attributes:
        image: The image.
        model: Name of the model in an audit of several.
        explained: The class whose maps these are, and its probability.
        further: Other classes that were explained for the image; they have no maps here.
        name: What a reader calls it.
        tiles: The photo, then one map an explainer.
        columns: Tiles in a line, so that the lines are about equally long.
    """

    image: UsedImage
    model: str | None
    explained: ExplainedClass
    further: tuple[ExplainedClass, ...]
    name: str
    tiles: tuple[Tile, ...]
    columns: int


def gallery_artifacts(report: AuditReport) -> tuple[Artifact, ...]:
    """The pictures a page shows: those of the first images that have any, fewer where there are several models."""
    first = list(dict.fromkeys(artifact.image for artifact in report.artifacts))
    shown = first[: max(1, GALLERY_IMAGES // len(report.audited_models))]
    return tuple(artifact for artifact in report.artifacts if artifact.image in shown)


def gallery_rows(report: AuditReport, pictures: Mapping[str, bytes]) -> tuple[Row, ...]:
    """Rows of the gallery, image by image, and for each image model by model.

    Args:
        report: The audit's report.
        pictures: Digest -> bytes of a picture; one that is missing is left out.
    """
    own: dict[tuple[int, str | None], list[Artifact]] = {}
    for artifact in gallery_artifacts(report):
        if artifact.digest in pictures:
            own.setdefault((artifact.image, artifact.model), []).append(artifact)
    controls = {explainer.label for explainer in report.plan.explainers if explainer.is_control}
    return tuple(
        _row(image, model.name, own[image.index, model.name], pictures, controls)
        for image in report.images.items
        for model in report.audited_models
        if (image.index, model.name) in own
    )


def _row(
    image: UsedImage,
    model: str | None,
    artifacts: Sequence[Artifact],
    pictures: Mapping[str, bytes],
    controls: Container[str],
) -> Row:
    name = image.name or f"image {image.index}"
    lines = -(-len(artifacts) // TILES_IN_A_LINE)
    explained, *further = explained_classes(image, model)
    return Row(
        image=image,
        model=model,
        explained=explained,
        further=tuple(further),
        name=name,
        tiles=tuple(_tile(artifact, pictures[artifact.digest], name, controls) for artifact in artifacts),
        columns=-(-len(artifacts) // lines),
    )


def explained_classes(image: UsedImage, model: str | None) -> tuple[ExplainedClass, ...]:
    """What was explained for an image and a model, the first class first."""
    first = ExplainedClass(target=image.target, probability=image.probability)
    alone = (first, *image.further_targets)
    return alone if model is None else image.by_model.get(model) or alone


def _tile(artifact: Artifact, data: bytes, name: str, controls: Container[str]) -> Tile:
    uri = f"data:{artifact.media_type};base64,{base64.b64encode(data).decode()}"
    explainer = artifact.explainer
    if explainer is None:
        return Tile("as the model sees it", f"Photo {name}", uri)
    return Tile(
        f"{explainer} (control)" if explainer in controls else explainer, f"Map of {explainer} over {name}", uri
    )
