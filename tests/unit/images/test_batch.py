"""Good images among bad ones."""

import hashlib
import io
import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from auditcore.contracts.access import Limits
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.images import batch as batches
from auditcore.images.batch import DecodedBatch, decode_ahead, decode_batch, group_sizes
from auditcore.images.encoded import EncodedImage
from auditcore.images.reading import DecodedImage

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


def test_groups_contain_every_image_once_in_order() -> None:
    images = [photo(seed, seed) for seed in range(7)] + [EncodedImage(7, None, b"no image", None)]
    whole = decode_batch(images, PREPROCESSING, Limits())
    for size in (1, 3, 8, 100):
        groups = list(decode_ahead(images, size, PREPROCESSING, Limits()))
        assert [image for group, _ in groups for image in group] == images
        assert all(len(group) <= size for group, _ in groups)
        assert torch.equal(torch.cat([decoded.pixels for _, decoded in groups]), whole.pixels)
        assert [record for _, decoded in groups for record in decoded.excluded] == list(whole.excluded)


@pytest.mark.parametrize(
    ("count", "size", "growing", "expected"),
    [
        (0, 16, True, []),
        (17, 16, True, [16, 1]),
        (17, 16, False, [16, 1]),
        (5, 256, True, [5]),
        (64, 256, True, [32, 32]),
        (256, 256, True, [32, 64, 128, 32]),
        (512, 256, True, [32, 64, 128, 256, 32]),
        (500, 256, True, [84, 128, 256, 32]),
        (514, 256, True, [34, 64, 128, 256, 32]),
        (256, 256, False, [256]),
        (500, 256, False, [244, 256]),
        (512, 256, False, [256, 256]),
        (514, 256, False, [2, 256, 256]),
    ],
)
def test_large_groups_begin_small(
    count: int,
    size: int,
    growing: bool,  # noqa: FBT001 - pytest gives it
    expected: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "decode_batch", lambda group, *_, **__: group)
    images = [EncodedImage(index, None, b"", None) for index in range(count)]
    groups = [group for group, _ in decode_ahead(images, size, PREPROCESSING, Limits(), growing=growing)]
    assert [len(group) for group in groups] == expected
    assert [image for group in groups for image in group] == images


@pytest.mark.parametrize("growing", [True, False])
@given(count=st.integers(0, 2000), size=st.integers(1, 600), share=st.floats(0, 1))
def test_what_is_left_after_any_group_is_divided_as_before(
    growing: bool,  # noqa: FBT001 - pytest gives it
    count: int,
    size: int,
    share: float,
) -> None:
    sizes = list(group_sizes(count, size, growing=growing))
    assert sum(sizes) == count
    assert all(1 <= each <= size for each in sizes)
    # another process may go on after any group, and must divide the rest in the same way
    done = round(share * len(sizes))
    assert list(group_sizes(sum(sizes[done:]), size, growing=growing)) == sizes[done:]


def test_one_group_is_decoded_ahead_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    second = threading.Event()

    def decode(
        group: Sequence[EncodedImage],
        preprocessing: Preprocessing,
        limits: Limits,
        given_up: threading.Event,
        *,
        device: torch.device,
    ) -> DecodedBatch:
        assert not given_up.is_set()
        begun.append(group[0].index)
        if len(begun) == 2:
            second.set()
        return decode_batch(group, preprocessing, limits, device=device)

    monkeypatch.setattr(batches, "decode_batch", decode)
    groups = decode_ahead([photo(seed, seed) for seed in range(4)], 1, PREPROCESSING, Limits())
    next(groups)
    assert second.wait(10)
    assert begun == [0, 1]
    # when the audit is cancelled, nothing else is decoded
    groups.close()
    assert begun == [0, 1]


def test_an_error_of_decoding_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(group: Sequence[EncodedImage], *_: object, **__: object) -> DecodedBatch:
        if group[0].index == 1:
            raise MemoryError
        return decode_batch(group, PREPROCESSING, Limits())

    monkeypatch.setattr(batches, "decode_batch", decode)
    groups = decode_ahead([photo(seed, seed) for seed in range(3)], 1, PREPROCESSING, Limits())
    next(groups)
    with pytest.raises(MemoryError):
        next(groups)


def test_images_that_are_no_longer_needed_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    given_up = threading.Event()
    read_image = batches.read_image

    def decode(data: bytes, preprocessing: Preprocessing, *, limits: Limits, field: str) -> DecodedImage:
        seen.append(field)
        given_up.set()
        return read_image(data, preprocessing, limits=limits, field=field)

    monkeypatch.setattr(batches, "read_image", decode)
    decode_batch([photo(seed, seed) for seed in range(4)], PREPROCESSING, Limits(), given_up)
    assert seen == ["images.0"]
