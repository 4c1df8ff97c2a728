"""Made-up images as a dataset: labels, boxes and masks, splits, counterfactual images, files."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final, get_args, overload

import numpy as np
from jaxtyping import UInt8

from auditcore.contracts.masks import Mask
from auditcore.contracts.synthetic import OBJECT_CLASSES, SCENE_CLASSES, Digits, ObjectsOnScenes
from auditcore.errors import InvalidRequest
from auditcore.images.encoded import EncodedImage
from auditcore.synthetic.annotation_files import AnnotatedFile, coco_file, label_table
from auditcore.synthetic.folders import write_whole
from auditcore.synthetic.image import Part, SyntheticImage
from auditcore.synthetic.marks import Mark, mark_corner, other_class
from auditcore.synthetic.regions import box_of, run_lengths_of
from auditcore.synthetic.stratified import split_positions, subset_positions

AnnotatedPart = Literal["label", "object", "scene", "mark"]
"""What boxes and masks show."""

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can hold, so that the same images give the same archive."""


@final
@dataclass(frozen=True, eq=False)
class SyntheticDataset(Sequence[EncodedImage]):
    """Images with known truth, a sequence of `EncodedImage`, as `audit` takes them.

    Attributes:
        parameters: What it was generated from, or the larger dataset that it is a part of.
        images: Its images with everything that is known of them.
        annotated: What boxes and masks of the encoded images show. `label`: the object or the scene, whichever the
            label names, with its class; the other three: this part of each image, for every target.
    """

    parameters: ObjectsOnScenes | Digits
    images: tuple[SyntheticImage, ...]
    annotated: AnnotatedPart = "label"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> EncodedImage: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[EncodedImage, ...]: ...

    def __getitem__(self, index: int | slice) -> EncodedImage | tuple[EncodedImage, ...]:
        """Return an image as a PNG file with its label, box and mask, or several; `index` counts from 0 in the part."""
        if isinstance(index, slice):
            return tuple(self._encoded(position) for position in range(len(self))[index])
        return self._encoded(range(len(self))[index])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that labels are."""
        return self.parameters.class_names

    @property
    def labels(self) -> tuple[int, ...]:
        """Class of each image."""
        return tuple(image.label for image in self.images)

    @property
    def object_labels(self) -> tuple[int, ...]:
        """Class of the object of each image, a position in `OBJECT_CLASSES`; the digit itself for digits."""
        return tuple(image.object_label for image in self.images)

    @property
    def scene_labels(self) -> tuple[int | None, ...]:
        """Class of the scene of each image, a position in `SCENE_CLASSES`; None for digits."""
        return tuple(image.scene_label for image in self.images)

    @property
    def marks(self) -> tuple[int | None, ...]:
        """Class that the mark of each image predicts; None for an image without a mark."""
        return tuple(None if image.mark is None else image.mark.predicts for image in self.images)

    def pixels(self) -> UInt8[np.ndarray, "image height width 3"]:
        """Return the pixels of all images, with their marks."""
        return np.stack([image.pixels for image in self.images])

    def split(self, *shares: float, seed: int = 0) -> tuple[SyntheticDataset, ...]:
        """Divide the dataset into parts in which every class has its share, such as training, validation and test.

        The part of an image depends on its number and class, so that counterfactual images are in the same parts.

        Args:
            shares: Share of each part but the last, which gets what is left: `split(0.8)` makes two parts,
                `split(0.6, 0.2)` three.
            seed: Seed of the draw.

        Raises:
            InvalidRequest: Shares are not above 0 or leave nothing, or a class would miss in a part.
        """
        parts = split_positions(self.labels, self._numbers, shares, seed=seed)
        return tuple(self._only(part) for part in parts)

    def subset(self, share: float, *, seed: int = 0) -> SyntheticDataset:
        """Return a share of each class; smaller subsets lie within larger ones.

        Splits A to E of Erdem 2021 are `subset(1.0)`, `subset(0.8)`, `subset(0.6)`, `subset(0.4)`, `subset(0.2)` of the
        training data. The thesis does not say that they are nested; if they are, models differ by the images that are
        added only.

        Args:
            share: How much of each class, above 0 and at most 1; at least one image of a class stays.
            seed: Seed of the draw.

        Raises:
            InvalidRequest: The share is out of range.

        Source: Erdem 2021, 5.1, table 5.1.
        """
        return self._only(subset_positions(self.labels, self._numbers, share, seed=seed))

    def with_own_marks(self) -> SyntheticDataset:
        """Return the same images, each with the mark of its own class."""
        return self.with_marks(self.labels)

    def with_contradicting_marks(self) -> SyntheticDataset:
        """Return the same images, each with the mark of another class; a generated mark that contradicts stays."""
        classes, seed = len(self.class_names), self.parameters.seed
        return self.with_marks(
            [other_class(image.label, classes=classes, seed=seed, number=image.number) for image in self.images]
        )

    def without_marks(self) -> SyntheticDataset:
        """Return the same images without marks."""
        return self.with_marks([None] * len(self))

    def with_marks(self, marks: Sequence[int | None]) -> SyntheticDataset:
        """Return the same images with other marks: all other pixels, and the places of marks, are the same.

        Args:
            marks: Class whose mark each image has; None for none.

        Raises:
            InvalidRequest: There is not one mark per image, or one is no class.
        """
        if len(marks) != len(self):
            msg = f"{len(marks)} marks for {len(self)} images; give one per image, None for none"
            raise InvalidRequest(msg, field="marks")
        classes = len(self.class_names)
        for position, predicts in enumerate(marks):
            if predicts is not None and not 0 <= predicts < classes:
                msg = f"mark {position} is of class {predicts}, which does not exist; use 0 to {classes - 1}, or None"
                raise InvalidRequest(msg, field="marks")
        return replace(self, images=tuple(map(self._marked, self.images, marks)))

    def annotating(self, annotated: str) -> SyntheticDataset:
        """Return the same images with boxes and masks of another part, such as `mark`.

        `localization` then measures how much of a map lies there. An image without this part has no box and no mask.

        Args:
            annotated: `label`, `object`, `scene` or `mark`.

        Raises:
            InvalidRequest: It is none of these.
        """
        parts: dict[str, AnnotatedPart] = {part: part for part in get_args(AnnotatedPart)}
        if annotated not in parts:
            msg = f"images have no part {annotated!r}; use {', '.join(parts)}"
            raise InvalidRequest(msg, field="annotated")
        return replace(self, annotated=parts[annotated])

    def annotation_files(self) -> dict[str, bytes]:
        """Return what is known of the images, as files.

        `annotations.json` (COCO) has the box and the mask of what the label names, `objects.json` those of objects and
        `marks.json` those of marks, for every target; `labels.csv` all labels; `classes.txt` the names of classes, and
        `parameters.json` what the images were generated from. There is no `marks.json` if no image has a mark.
        """
        names = self.class_names
        object_names = OBJECT_CLASSES if isinstance(self.parameters, ObjectsOnScenes) else names
        files = {
            "annotations.json": self._coco("label"),
            "objects.json": self._coco("object"),
            "labels.csv": label_table(self.images, names, object_names, SCENE_CLASSES),
            "classes.txt": "".join(f"{name}\n" for name in names).encode(),
            "parameters.json": f"{self.parameters.model_dump_json(indent=2)}\n".encode(),
        }
        if any(mark is not None for mark in self.marks):
            files["marks.json"] = self._coco("mark")
        return files

    def folder_files(self) -> dict[str, bytes]:
        """Return the files of the folder that `write_folder` writes, by their paths in it."""
        return {f"images/{image.name}": image.png() for image in self.images} | self.annotation_files()

    def write_folder(self, path: Path) -> None:
        """Write the images into `images/` of a new folder, beside them the files of `annotation_files`.

        The folder appears when it is complete. `auditcore audit REQUEST --images PATH/images --annotations
        PATH/annotations.json --boxes PATH/annotations.json --classes PATH/classes.txt` audits these images with their
        labels, boxes and masks.

        Args:
            path: The folder; it does not exist yet, or is empty.

        Raises:
            InvalidRequest: There is something in the folder, or it cannot be written.
        """
        write_whole(path, self.folder_files())

    def zip_bytes(self) -> bytes:
        """Return the images as an archive for `POST /v1/image-batches`; labels and masks are fields of that form.

        Fields beside `archive`: `annotations` and `boxes`, both the content of `annotations.json`, and `classes`, that
        of `classes.txt`. See `annotation_files`.
        """
        file = io.BytesIO()
        # PNG is compressed already
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for image in self.images:
                archive.writestr(zipfile.ZipInfo(image.name, _ZIP_DATE), image.png())
        return file.getvalue()

    @property
    def _numbers(self) -> tuple[int, ...]:
        return tuple(image.number for image in self.images)

    def _only(self, positions: Sequence[int]) -> SyntheticDataset:
        return replace(self, images=tuple(self.images[position] for position in positions))

    def _encoded(self, position: int) -> EncodedImage:
        image = self.images[position]
        region = image.region(self._part)
        if not region.any():
            return EncodedImage(position, image.name, image.png(), image.label)
        label = image.label if self.annotated == "label" else None
        boxes, masks = (box_of(region, label=label),), (Mask(rle=run_lengths_of(region), label=label),)
        return EncodedImage(position, image.name, image.png(), image.label, boxes, masks)

    @property
    def _part(self) -> Part:
        """The part that boxes and masks show."""
        if self.annotated != "label":
            return self.annotated
        scenes = isinstance(self.parameters, ObjectsOnScenes) and self.parameters.labels == "scenes"
        return "scene" if scenes else "object"

    def _coco(self, annotated: AnnotatedPart) -> bytes:
        """The annotation file of a part."""
        shown = self.annotating(annotated)
        part, own = shown._part, annotated == "label"  # noqa: SLF001 - of the same class
        return coco_file(
            [AnnotatedFile(image.name, image.region(part), image.label if own else 0) for image in self.images],
            self.class_names if own else (annotated,),
        )

    def _marked(self, image: SyntheticImage, predicts: int | None) -> SyntheticImage:
        if predicts is None:
            return replace(image, mark=None)
        return replace(image, mark=Mark(predicts, mark_corner(self.parameters.seed, image.number)))
