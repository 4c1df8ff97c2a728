"""Files of several tensors, cut into files of one."""

from __future__ import annotations

import io

import pytest
import safetensors.torch
import torch

from auditcore.contracts.access import Limits
from auditcore.contracts.images import TensorImages
from auditcore.errors import LimitExceeded, UndecodableImage
from auditcore.images.tensor_batches import cut, is_tensor_file, open_batch

TENSOR = torch.arange(5 * 2 * 3 * 4, dtype=torch.float32).reshape(5, 2, 3, 4)
NORMALIZED = {"mean": "[0.5, 0.25]", "std": "[0.25, 0.125]"}


def pieces(data: bytes, **declared: object) -> list[bytes]:
    stream = io.BytesIO(data)
    reference = TensorImages.model_validate({"uri": "file:///x", **declared}) if declared else None
    batch = open_batch(stream, size=len(data), limits=Limits(), field="images.0", declared=reference)
    return list(cut(stream, batch, field="images.0"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_every_image_becomes_a_file_that_safetensors_reads(dtype: torch.dtype) -> None:
    found = pieces(safetensors.torch.save({"other": torch.ones(3), "pixels": TENSOR.to(dtype)}, {"tensor": "pixels"}))
    for number, data in enumerate(found):
        assert torch.equal(safetensors.torch.load(data)["image"], TENSOR[number].to(dtype))
    assert len(found) == 5


def test_the_bytes_depend_only_on_values_and_normalization() -> None:
    one = pieces(
        safetensors.torch.save({"a": TENSOR}, {"format": "pt", **NORMALIZED, "names": '["1","2","3","4","5"]'})
    )
    other = pieces(safetensors.torch.save({"b": TENSOR[2:]}), mean=[0.5, 0.25], std=[0.25, 0.125])
    assert one[2:] == other
    assert one != pieces(safetensors.torch.save({"a": TENSOR}))


def test_what_the_request_says_comes_before_what_the_file_says() -> None:
    data = safetensors.torch.save({"a": TENSOR, "b": TENSOR[:1].clone()}, {"tensor": "a", **NORMALIZED})
    batch = open_batch(
        io.BytesIO(data),
        size=len(data),
        limits=Limits(),
        field="images.uri",
        declared=TensorImages(uri="file:///x", tensor="b"),
    )
    assert batch.images == 1
    assert batch.declared.mean == (0.5, 0.25)


@pytest.mark.parametrize(
    ("images", "metadata", "file", "names"),
    [
        (2, {}, "cats.safetensors", ("cats-0.safetensors", "cats-1.safetensors")),
        (1, {}, "cat.safetensors", ("cat.safetensors",)),
        (2, {"names": '["a.png", "b.png"]'}, "cats.safetensors", ("a.png", "b.png")),
    ],
)
def test_names(images: int, metadata: dict[str, str], file: str, names: tuple[str, ...]) -> None:
    data = safetensors.torch.save({"x": TENSOR[:images]}, metadata)
    assert open_batch(io.BytesIO(data), size=len(data), limits=Limits(), field="images.0").names(file) == names


def test_names_sort_as_numbers_do() -> None:
    data = safetensors.torch.save({"x": torch.zeros(11, 1, 2, 2)})
    names = open_batch(io.BytesIO(data), size=len(data), limits=Limits(), field="images.0").names("x.safetensors")
    assert names[2:3] + names[10:] == ("x-02.safetensors", "x-10.safetensors")
    assert sorted(names) == list(names)


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(image_bytes=95), "4 x 3 pixels of 2 channels, has 96 bytes, more than the 95 allowed"),
        (Limits(batch_images=4), "the tensor has 5 images, more than the 4 allowed"),
        (Limits(batch_bytes=500), "the file has .* bytes, more than the 500 allowed"),
    ],
)
def test_what_is_too_large_is_refused_by_its_header(limits: Limits, said: str) -> None:
    data = safetensors.torch.save({"x": TENSOR})
    header = len(data) - 5 * 96
    with pytest.raises(LimitExceeded, match=said):
        open_batch(io.BytesIO(data[:header]), size=len(data), limits=limits, field="images.0")


def test_a_file_that_is_shorter_than_was_said_is_refused_where_it_ends() -> None:
    data = safetensors.torch.save({"x": TENSOR})
    stream = io.BytesIO(data[:-100])
    batch = open_batch(stream, size=len(data), limits=Limits(), field="images.0")
    files = cut(stream, batch, field="images.0")
    assert len([next(files) for _ in range(3)]) == 3
    with pytest.raises(UndecodableImage, match="ends within image 3 of 5"):
        next(files)


@pytest.mark.parametrize(
    "start", [b"", b"\x89PNG\r\n\x1a\n{", b"{}", b"\x02\0\0\0\0\0\0\0", b"BM\x36\x10\0\0\0\0\0\0\x36"]
)
def test_other_files_are_not_taken_for_tensors(start: bytes) -> None:
    assert not is_tensor_file(start)


def test_a_file_is_known_by_its_beginning_or_its_name() -> None:
    assert is_tensor_file(safetensors.torch.save({"x": TENSOR})[:9])
    assert is_tensor_file(b"damaged", "x.SafeTensors")
    assert not is_tensor_file(b"", "x.safetensors")
