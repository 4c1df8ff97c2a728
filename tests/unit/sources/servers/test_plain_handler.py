"""TorchServe's own `image_classifier`, as far as photos go: what arrives at the server is what the model should see."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from auditcore.contracts.server_models import TorchServeModel
from auditcore.sources.servers.tensors import RawTensor
from auditcore.sources.servers.torchserve.client import TorchServeClient
from scripted_server import Asked, Reply, scripted

SIDE = 12
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def answer(_: Asked) -> Reply:
    return Reply(content=json.dumps({"0": 0.5, "1": 0.3, "2": 0.2}).encode())


def client(url: str, **preprocessing: Any) -> TorchServeClient:
    reference = {
        "kind": "torchserve",
        "url": url,
        "name": "digits",
        "classes": 3,
        "preprocessing": {"resize": SIDE, "crop": SIDE, **preprocessing},
    }
    return TorchServeClient(TorchServeModel.model_validate(reference))


def decoded(content: bytes) -> np.ndarray:
    photo = Image.open(io.BytesIO(content))
    assert (photo.format, photo.mode) == ("PNG", "RGB")
    return np.asarray(photo)


def test_the_photo_that_asks_what_is_served_is_gray() -> None:
    with scripted(answer) as server:
        client(server.url).describe()
    (asked,) = server.asked
    assert asked.headers["content-type"] == "image/png"
    assert np.array_equal(decoded(asked.body), np.full((32, 32, 3), 128))


@pytest.mark.parametrize(("mean", "std"), [((0.0,) * 3, (1.0,) * 3), (MEAN, STD)])
def test_photos_arrive_with_the_pixels_they_had_before_they_were_normalized(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (3, SIDE, SIDE))
    normalized = (pixels / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    with scripted(answer) as server:
        asking = client(server.url, mean=mean, std=std)
        asking.describe()
        asking.predict([RawTensor((1, 3, SIDE, SIDE), normalized.astype("<f4").tobytes())])
    assert np.array_equal(decoded(server.asked[-1].body), pixels.transpose(1, 2, 0))


def test_values_outside_the_range_of_a_photo_are_clipped() -> None:
    values = np.linspace(-0.5, 1.5, 3 * SIDE * SIDE, dtype="<f4")
    with scripted(answer) as server:
        asking = client(server.url, mean=(0.0,) * 3, std=(1.0,) * 3)
        asking.describe()
        asking.predict([RawTensor((1, 3, SIDE, SIDE), values.tobytes())])
    expected = np.clip(values.astype(float) * 255, 0, 255).round().reshape(3, SIDE, SIDE).transpose(1, 2, 0)
    assert np.array_equal(decoded(server.asked[-1].body), expected)
