"""The places where bytes of strangers are read, each as a function that may refuse them and may do nothing else."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import TensorProto, helper
from PIL import Image

import chest_xrays
import digits
import satellite_fields
from auditcore.contracts.access import Limits
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.map_files import read_map_layout, targets_of
from auditcore.contracts.masks import Mask
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import InputError
from auditcore.images.masks import mask_pixels
from auditcore.images.reading import read_image
from auditcore.images.tensor_batches import cut, open_batch
from auditcore.images.uploaded_maps import UploadedMaps
from auditcore.models.archives import Archive
from auditcore.models.loaders import onnx as onnx_loader
from auditcore.models.loaders.exported_weights import is_exported, read_exported_weights
from auditcore.models.loaders.external_data import include_external_data, refuse_external_data
from auditcore.models.loaders.found_weights import read_found_weights
from auditcore.models.loaders.weights import read_checkpoint
from auditcore.tensor_files import write_tensors
from auditcore_service.use_cases.annotations import GivenAnnotations, read_annotations
from auditcore_service.use_cases.refusals import InvalidUpload

LIMITS = Limits(image_bytes=2**20, image_pixels=2**18, batch_images=64, batch_bytes=2**21, weights_bytes=2**22)
"""Small, so that a bomb that gets past them shows in little memory."""

NAMES = ("cat.png", "dog.png")


@final
@dataclass(frozen=True)
class Intake:
    """One place where bytes of strangers are read.

    Attributes:
        read: Reads them; raises what `refusals` lists, and nothing else.
        seeds: Makes good bytes, from which hostile ones are made.
        refusals: Errors that tell the sender what is wrong.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], tuple[bytes, ...]]
    refusals: tuple[type[Exception], ...] = (InputError,)

    def accepts(self, data: bytes) -> bool:
        """Whether these bytes are read; any error but a refusal passes through."""
        try:
            self.read(data)
        except self.refusals:
            return False
        return True


def _image(data: bytes) -> object:
    """The first byte chooses the model, so that all ways of reading one file are tried."""
    chosen = PREPROCESSING[data[0] % len(PREPROCESSING)] if data else PREPROCESSING[0]
    return read_image(data[1:], chosen, limits=LIMITS, field="images.0")


PREPROCESSING = (
    Preprocessing(resize=16, crop=16),
    Preprocessing(resize=16, crop=16, mean=(0.5,), std=(0.5,)),
    Preprocessing.model_validate({"resize": 16, "crop": 16, "mean": [0.5] * 6, "std": [0.5] * 6, "range": [0, 65535]}),
)


@cache
def _images() -> tuple[bytes, ...]:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 9, 3), dtype=np.uint8)
    photos = []
    for form, mode, options in (
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "LA", {}),
        ("JPEG", "RGB", {"quality": 80}),
        ("WEBP", "RGB", {}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ):
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
        photos.append(buffer.getvalue())
    array = io.BytesIO()
    np.save(array, pixels)
    crop = satellite_fields.field(0, 0)[:8, :8]
    deep = [satellite_fields.tiff(crop), satellite_fields.npy(crop)]
    scan = chest_xrays.dicom(chest_xrays.xray(0, (), 24, 20), "plain")
    return tuple(
        bytes([number]) + data
        for data in (*photos, array.getvalue(), *deep, scan)
        for number in range(len(PREPROCESSING))
    )


def _mask(data: bytes) -> object:
    return mask_pixels(Mask.of_png(data, label=None), (9, 12), field="images.masks.0")


@cache
def _masks() -> tuple[bytes, ...]:
    shape = np.zeros((12, 9), np.uint8)
    shape[3:7, 2:5] = 255
    files = []
    for mode in ("L", "1", "P", "RGBA", "I;16"):
        buffer = io.BytesIO()
        image = Image.fromarray(shape.astype(np.uint16)) if mode == "I;16" else Image.fromarray(shape).convert(mode)
        image.save(buffer, "PNG")
        files.append(buffer.getvalue())
    return tuple(files)


def _annotations(data: bytes) -> object:
    """The first byte chooses which part of an upload the text is."""
    text = data[1:].decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
    parts = ("labels", "boxes", "masks", "annotations", "classes")
    return read_annotations(GivenAnnotations(**{parts[data[0] % len(parts) if data else 0]: text}), NAMES)


@cache
def _annotation_files() -> tuple[bytes, ...]:
    coco = {
        "images": [{"id": 1, "file_name": "cat.png", "width": 9, "height": 12}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "iscrowd": 0}],
    }
    texts = (
        (0, "[285, null]"),
        (0, '{"cat.png": 285, "dog.png": [3, 17]}'),
        (0, "file,label\ncat.png,3\ndog.png,4\n"),
        (1, "[[[10, 20, 110, 90]], null]"),
        (1, json.dumps(coco)),
        (2, '{"cat.png": [{"polygons": [[1, 2, 7, 2, 6, 9]], "label": 285}]}'),
        (2, '{"cat.png": [{"rle": {"size": [12, 9], "counts": [50, 8, 50]}}]}'),
        (3, json.dumps(coco)),
        (3, "file,label\ncat.png,3\n"),
        (4, '{"0": "cat", "1": "dog"}'),
        (4, '["cat", "dog"]'),
    )
    return tuple(bytes([part]) + text.encode() for part, text in texts)


def _maps(data: bytes) -> object:
    file, layout = read_map_layout(data)
    targets_of(layout)
    if file.height * file.width > LIMITS.image_pixels:
        return None
    shape = InputShape(file.channels, file.height, file.width)
    return UploadedMaps(data, field="plan.explainers.0.maps").rows([0, 1], [DIGEST, DIGEST], [3, 4], shape=shape)


DIGEST = "sha256:" + "0" * 64
"""Of an image that the maps belong to."""


@cache
def _map_files() -> tuple[bytes, ...]:
    values = np.random.default_rng(0).normal(size=(2, 4, 4)).astype("<f4")
    return (
        write_tensors({"maps": ("F32", (2, 4, 4), values.tobytes())}),
        write_tensors({DIGEST: ("F32", (4, 4), values[0].tobytes())}, {"targets": json.dumps({DIGEST: 3})}),
    )


def _batch(data: bytes) -> object:
    stream = io.BytesIO(data)
    batch = open_batch(stream, size=len(data), limits=LIMITS, field="images.0")
    return list(cut(stream, batch, field="images.0"))


@cache
def _batches() -> tuple[bytes, ...]:
    values = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype("<f4")
    return (
        write_tensors(
            {"images": ("F32", (2, 3, 8, 8), values.tobytes())},
            {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"},
        ),
        write_tensors({"images": ("U8", (2, 3, 8, 8), bytes(384))}),
    )


def _in_a_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def reading(data: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            path.write_bytes(data)
            return read(path)

    return reading


def _weights(path: Path) -> object:
    if is_exported(path):
        return read_exported_weights(path, field="model.weights.uri")
    read_found_weights(path, field="model.weights.uri")
    return read_checkpoint(path, field="model.weights.uri")


@cache
def _weight_files() -> tuple[bytes, ...]:
    state = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2, dtype=torch.float16)}
    files = [safetensors.torch.save(state)]
    for content, options in (
        (state, {}),
        ({"epoch": 3, "state_dict": state, "loss": [0.5]}, {}),
        (state, {"_use_new_zipfile_serialization": False}),
        (digits.build(), {}),
    ):
        buffer = io.BytesIO()
        torch.save(content, buffer, **options)
        files.append(buffer.getvalue())
    return tuple(files)


def _archive(path: Path) -> object:
    archive = Archive(path, limit_bytes=LIMITS.weights_bytes)
    wanted = (archive.manifest.model.serialized_file, archive.manifest.model.model_file)
    with archive.extracted([name for name in wanted if name is not None]) as files:
        return {name: file.stat().st_size for name, file in files.items()}


@cache
def _archives() -> tuple[bytes, ...]:
    made = []
    manifest = {
        "runtime": "python",
        "model": {"modelName": "digits", "serializedFile": "w.pt", "modelFile": "model.py", "modelVersion": "1.0"},
    }
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
            archive.writestr("w.pt", b"weights" * 20)
            archive.writestr("model.py", b"raise SystemExit")
        made.append(buffer.getvalue())
    return tuple(made)


def _graph(data: bytes) -> object:
    """Everything that is done with a graph before ONNX Runtime gets it."""
    graph = onnx_loader._parsed(data)

    def refused(name: str) -> bytes:
        raise AssertionError(f"{name} would be read beside the graph")  # noqa: EM102, TRY003

    try:
        include_external_data(graph, refused, field="model.uri")
    except AssertionError as error:
        # a plain name in the folder of the graph is what may be read there
        assert "/" not in str(error).removesuffix(" would be read beside the graph")  # noqa: PT017
        return None
    refuse_external_data(graph, field="model.uri")
    return graph


@cache
def _graphs() -> tuple[bytes, ...]:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [0.5] * 6)
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3, 2], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value="weights.bin")
    made = []
    for tensor in (weight, outside):
        nodes = [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["f"])]
        nodes.append(helper.make_node("MatMul", ["f", "w"], ["y"]))
        graph = helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
            [tensor],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        assert isinstance(model, onnx.ModelProto)
        made.append(model.SerializeToString())
    return tuple(made)


INTAKES: Mapping[str, Intake] = {
    "image": Intake(_image, _images),
    "mask": Intake(_mask, _masks),
    "annotations": Intake(_annotations, _annotation_files, (InvalidUpload,)),
    "maps": Intake(_maps, _map_files),
    "batch": Intake(_batch, _batches),
    "weights": Intake(_in_a_file(_weights), _weight_files),
    "archive": Intake(_in_a_file(_archive), _archives),
    "graph": Intake(_graph, _graphs),
}
"""Name -> the place."""
