"""What is known of made-up images, in the files that an audit and an upload read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from auditcore.synthetic.image import SyntheticImage
from auditcore.synthetic.regions import Region, box_of, run_lengths_of


@final
@dataclass(frozen=True)
class AnnotatedFile:
    """An image file and the region that is annotated in it.

    Attributes:
        name: Name of the file.
        region: Pixels of the region; none if nothing is annotated.
        category: Its category, a position in the list of categories.
    """

    name: str
    region: Region
    category: int


def coco_file(files: Sequence[AnnotatedFile], categories: Sequence[str]) -> bytes:
    """Return regions as an annotation file of COCO, each with its box and its run lengths.

    Args:
        files: The images, in order.
        categories: Names of the categories.
    """
    annotations: list[dict[str, Any]] = []
    for position, file in enumerate(files):
        if file.region.any():
            annotations.append({"id": len(annotations), "image_id": position} | _object(file))
    document = {
        "images": [
            {"id": position, "file_name": file.name, "width": file.region.shape[1], "height": file.region.shape[0]}
            for position, file in enumerate(files)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories)],
    }
    return json.dumps(document).encode()


def label_table(
    images: Sequence[SyntheticImage],
    class_names: Sequence[str],
    object_names: Sequence[str],
    scene_names: Sequence[str],
) -> bytes:
    """Return a table of all labels: file, label (a class index), object, scene, mark (names, empty without one).

    Args:
        images: The images.
        class_names: Names of the classes of labels, which marks predict.
        object_names: Names of the classes of objects.
        scene_names: Names of the classes of scenes.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("file", "label", "object", "scene", "mark"))
    for image in images:
        scene = "" if image.scene_label is None else scene_names[image.scene_label]
        mark = "" if image.mark is None else class_names[image.mark.predicts]
        table.writerow((image.name, image.label, object_names[image.object_label], scene, mark))
    return text.getvalue().encode()


def _object(file: AnnotatedFile) -> dict[str, Any]:
    box, runs = box_of(file.region, label=None), run_lengths_of(file.region)
    return {
        "category_id": file.category,
        "bbox": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
        "area": int(file.region.sum()),
        "segmentation": {"size": list(runs.size), "counts": list(runs.lengths)},
        "iscrowd": 0,
    }
