"""Good images among bad ones."""

import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from auditcore.contracts.access import Limits
from auditcore.contracts.models import Preprocessing
from auditcore.images.batch import decode_batch
from auditcore.images.encoded import EncodedImage

PREPROCESSING = Preprocessing(resize=32, crop=32)


def photo(seed: int, index: int, name: str | None = None) -> EncodedImage:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(buffer, "PNG")
    return EncodedImage(index=index, name=name, data=buffer.getvalue(), label=seed)


def test_one_bad_image_never_stops_the_rest() -> None:
    images = [
        photo(1, 10, "first.png"),
        EncodedImage(11, "bad.png", b"no image", 5),
        photo(2, 12),
        EncodedImage(13, None, b"\0" * 40_001, None),
    ]
    batch = decode_batch(images, PREPROCESSING, Limits(image_bytes=40_000))
    assert batch.used == (0, 2)
    assert batch.pixels.shape == (2, 3, 32, 32)
    assert batch.digests == tuple(f"sha256:{hashlib.sha256(images[at].data).hexdigest()}" for at in (0, 2))
    bad, large = batch.excluded
    assert (bad.index, bad.name, bad.label, bad.code) == (11, "bad.png", 5, "undecodable_image")
    assert bad.digest == images[1].digest
    assert bad.reason is not None
    assert (large.index, large.code) == (13, "limit_exceeded")


def test_a_row_does_not_depend_on_its_neighbors() -> None:
    together = decode_batch([photo(1, 0), photo(2, 1)], PREPROCESSING, Limits())
    alone = decode_batch([photo(2, 1)], PREPROCESSING, Limits())
    assert torch.equal(together.pixels[1], alone.pixels[0])
    assert not torch.equal(together.pixels[0], alone.pixels[0])


@pytest.mark.parametrize("images", [[], [EncodedImage(0, None, b"no image", None)]])
def test_nothing_usable_is_an_empty_tensor(images: list[EncodedImage]) -> None:
    batch = decode_batch(images, PREPROCESSING, Limits())
    assert batch.pixels.shape == (0, 3, 32, 32)
    assert (batch.used, batch.digests, len(batch.excluded)) == ((), (), len(images))
