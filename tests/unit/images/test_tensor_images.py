"""Tensors ready for the model: the model gets them again, and what cannot be one is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image
from timm.data import create_transform
from torch import Tensor

from auditcore.contracts.access import Limits
from auditcore.contracts.images import Box
from auditcore.contracts.masks import Mask
from auditcore.contracts.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Size
from auditcore.images.batch import DecodedBatch, decode_batch
from auditcore.images.encoded import EncodedImage

ULP_OF_A_PIXEL = 2**-24
"""Half of the distance of float32 numbers below 2; those of pixels in [0.5, 1) are this far apart."""


def preprocessing_for(tensor: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    return Preprocessing(resize=None, crop=Size(height=tensor.shape[-2], width=tensor.shape[-1]), mean=mean, std=std)


def decoded(tensor: Tensor, preprocessing: Preprocessing, **changes: Any) -> DecodedBatch:
    file = safetensors.torch.save({"x": tensor.contiguous()}, changes.pop("metadata", None))
    return decode_batch([EncodedImage(0, "x.safetensors", file, **changes)], preprocessing, Limits())


def reason(data: bytes, preprocessing: Preprocessing, limits: Limits | None = None) -> str:
    (excluded,) = decode_batch([EncodedImage(0, "x.safetensors", data)], preprocessing, limits or Limits()).excluded
    assert excluded.reason is not None
    return excluded.reason


def normalized(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """As `Classifier.normalize` does it."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return (pixels - mean) / std


def photo(seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (20, 33, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((99, 64), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    "pixels",
    [
        torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0)),
        torch.randint(0, 256, (3, 40, 56), generator=torch.Generator().manual_seed(0)) / 255,
        torch.tensor([0.0, 1.0, 1 / 255]).view(3, 1, 1).expand(3, 8, 8),
    ],
)
@pytest.mark.parametrize(
    ("mean", "std"),
    [(IMAGENET_MEAN, IMAGENET_STD), ((0.0,) * 3, (1.0,) * 3), ((0.9, 0.01, 0.5), (3.0, 0.02, 1 / 255))],
)
def test_what_was_normalized_in_float32_reaches_the_model_bit_for_bit(
    pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    preprocessing = preprocessing_for(pixels, mean, std)
    tensor = normalized(pixels, preprocessing)
    (found,) = decoded(tensor, preprocessing).pixels
    assert torch.equal(normalized(found, preprocessing), tensor)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


def test_a_photo_has_the_pixels_of_its_file() -> None:
    pixels = torch.arange(256).expand(3, 8, 256) / 255
    preprocessing = preprocessing_for(pixels, IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(decoded(normalized(pixels, preprocessing), preprocessing).pixels[0], pixels)


@pytest.mark.parametrize("seed", range(3))
def test_any_other_tensor_reaches_it_within_a_step_of_float32(seed: int) -> None:
    values = np.random.default_rng(seed)
    mean, std = tuple(values.uniform(0, 1, 4).tolist()), tuple(values.uniform(0.05, 1, 4).tolist())
    low, high = ((end - np.array(mean)) / np.array(std) for end in (0, 1))
    tensor = torch.from_numpy(values.uniform(low[:, None, None], high[:, None, None], (4, 60, 30))).float()
    preprocessing = preprocessing_for(tensor, mean, std)
    found = normalized(decoded(tensor, preprocessing).pixels[0], preprocessing)
    # in float64: the arithmetic of the comparison itself must not count
    off = (found.double() - tensor.double()).abs() * torch.tensor(std, dtype=torch.float64)[:, None, None]
    assert 0 < float(off.max()) <= 1.5 * ULP_OF_A_PIXEL


@pytest.mark.parametrize(
    ("dtype", "off"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-8), (torch.float64, 0.0)], ids=str
)
def test_other_types_are_read_as_they_are(dtype: torch.dtype, off: float) -> None:
    pixels = 0.02 + 0.96 * torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0))
    pixels[:, 0, 0], pixels[:, 0, 1] = 0, 1
    preprocessing = preprocessing_for(pixels, IMAGENET_MEAN, IMAGENET_STD)
    tensor = normalized(pixels, preprocessing).to(dtype)
    found = normalized(decoded(tensor, preprocessing).pixels[0], preprocessing)
    inside = torch.ones_like(pixels, dtype=torch.bool)
    inside[:, 0, :2] = False
    assert float((found - tensor.float()).abs()[inside].max()) <= 2.4e-7
    # black and white stay black and white, although rounding led beyond them
    assert float(((found - tensor.float()) / tensor.float()).abs().max()) <= off + 3e-7


@pytest.mark.parametrize(
    ("make", "mean", "std"),
    [
        (
            lambda image: transformers.ViTImageProcessor(size={"height": 32, "width": 48})(image, return_tensors="pt")[
                "pixel_values"
            ][0],
            (0.5,) * 3,
            (0.5,) * 3,
        ),
        (
            lambda image: transformers.BitImageProcessor(
                size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}
            )(image, return_tensors="pt")["pixel_values"][0],
            (0.48145466, 0.4578275, 0.40821073),
            (0.26862954, 0.26130258, 0.27577711),
        ),
        (
            create_transform(input_size=(3, 32, 32), mean=IMAGENET_MEAN, std=IMAGENET_STD, is_training=False),
            IMAGENET_MEAN,
            IMAGENET_STD,
        ),
    ],
    ids=["squash", "crop", "timm"],
)
def test_the_output_of_foreign_processors_reaches_the_model(
    make: Callable[[Image.Image], Tensor], mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    tensor = make(photo())
    preprocessing = preprocessing_for(tensor, mean, std)
    batch = decoded(tensor, preprocessing, metadata={"mean": str(list(mean)), "std": str(list(std))})
    assert batch.excluded == ()
    assert float((normalized(batch.pixels[0], preprocessing) - tensor).abs().max()) <= 1e-7 / min(std)


def test_rounding_beyond_white_is_white() -> None:
    preprocessing = Preprocessing(resize=None, crop=8, mean=(0.06,) * 3, std=(0.3,) * 3)
    white = torch.full((3, 8, 8), 0.94 / 0.3).bfloat16()
    assert float(white[0, 0, 0]) * 0.3 + 0.06 > 1.002
    assert torch.equal(decoded(white, preprocessing).pixels[0], torch.ones(3, 8, 8))


def test_boxes_and_masks_lie_on_the_tensor_whatever_the_model_does_to_photos() -> None:
    tensor = torch.zeros(6, 16, 40)
    # a photo of this size would be enlarged and cropped
    preprocessing = Preprocessing(resize=64, crop=Size(height=16, width=40), mean=(0.5,) * 6, std=(0.25,) * 6)
    box, mask = Box(x0=3, y0=2, x1=30, y1=15), Mask(polygons=((4.0, 1.0, 9.0, 1.0, 9.0, 6.0, 4.0, 6.0),))
    batch = decoded(tensor, preprocessing, boxes=(box,), masks=(mask,))
    assert batch.boxes[0][0].pixels == (3, 2, 30, 15)
    inside = batch.masks[0][0].pixels
    assert int(inside.sum()) == 25
    assert bool(inside[1:6, 4:9].all())
    (excluded,) = decoded(tensor, preprocessing, boxes=(Box(x0=3, y0=2, x1=60, y1=15),)).excluded
    assert "ends beyond the image of 40 x 16 pixels" in str(excluded.reason)


def test_a_bad_tensor_leaves_the_others_alone() -> None:
    preprocessing = Preprocessing(resize=None, crop=8)
    good, bad = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    bad[1, 2, 3] = torch.nan
    png = io.BytesIO()
    photo().save(png, "PNG")
    files = [*(safetensors.torch.save({"x": one}) for one in (good, bad, good[None])), png.getvalue()]
    batch = decode_batch([EncodedImage(index, None, data) for index, data in enumerate(files)], preprocessing, Limits())
    assert (batch.used, batch.ready) == ((0, 2, 3), (True, True, False))
    (excluded,) = batch.excluded
    assert (excluded.index, excluded.code) == (1, "undecodable_image")
    assert excluded.reason == "the tensor has NaN or infinite values; replace them"


EIGHT = Preprocessing(resize=None, crop=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
ZEROS = torch.zeros(3, 8, 8)


def file(*shape: int, value: float = 0.0, dtype: torch.dtype = torch.float32, **metadata: str) -> bytes:
    return safetensors.torch.save({"x": torch.full(shape or (3, 8, 8), value, dtype=dtype)}, metadata)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            file(value=3),
            (
                "values from 3 to 3, which are pixels from 1.25 to 1.25 by `preprocessing.mean` [0.5, 0.5, 0.5] and "
                "`preprocessing.std` [0.25, 0.25, 0.25], and pixels lie between 0 and 1"
            ),
        ),
        (file(value=-2.001), "pixels from -0.0002"),
        (file(value=torch.inf), "NaN or infinite values"),
        (file(value=0.1, dtype=torch.float64), "save it as float32"),
        (file(value=1e300, dtype=torch.float64), "save it as float32"),
        (file(dtype=torch.int32), "values of type I32; tensors ready for a model are float32"),
        (file(3, 8, 16), "the tensor is 16 x 8 pixels, and the model takes 8 x 8 pixels; tensors are never resized"),
        (file(1, 8, 8), "the tensor is 8 x 8 pixels of 1 channel, and the model takes 8 x 8 pixels;"),
        (file(8, 8), "has shape (8, 8); images are (N,C,H,W)"),
        (file(0, 3, 8, 8), "holds no image"),
        (file(2, 3, 8, 8), "the file holds 2 images; name it in `images` of kind `tensors`"),
        (safetensors.torch.save({"x": ZEROS, "y": ZEROS + 1}), "has 2 tensors ('x', 'y'); name the one with"),
        (safetensors.torch.save({}), "has 0 tensors (none)"),
        (file(tensor="z"), "has no tensor 'z'; it has 'x'"),
        (
            file(mean="[0.5, 0.5, 0.4]", std="[0.25, 0.25, 0.25]"),
            "normalized by the mean [0.5, 0.5, 0.4], and the model by the mean [0.5, 0.5, 0.5]",
        ),
        (file(mean="[0.5, 0.5, 0.5]", std="[0.25, 0.25, 0.2]"), "normalized by the std [0.25, 0.25, 0.2]"),
        (file(mean="[0.5]", std="[0.25]"), "mean and std have 1 values, and the images 3 channels"),
        (file(mean="[0.5, 0.5, 0.5]"), "`mean` is given without `std`"),
        (file(mean="half"), "the metadata `mean` of the safetensors file cannot be used (not JSON"),
        (file(names="[1]"), "the metadata `names` of the safetensors file cannot be used"),
        (file(names='["a", "b"]'), "names has 2 entries for 1 images"),
        (file()[:-1], "it ends after"),
        (file()[:20], "does not begin with the length of a header"),
        (b"not one", "does not begin with the length of a header"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_tensor_for_this_model_says_why(data: bytes, said: str) -> None:
    assert said in reason(data, EIGHT)


def test_limits_hold_before_values_are_read() -> None:
    assert "has 768 bytes, more than the 767 allowed" in reason(file(), EIGHT, Limits(image_bytes=767))
    assert "64 pixels, more than the 63 allowed" in reason(file(), EIGHT, Limits(image_pixels=63))
