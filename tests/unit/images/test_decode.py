"""Hostile and unusual image files."""

import io
import resource
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from auditcore.contracts.access import Limits
from auditcore.errors import LimitExceeded, UndecodableImage
from auditcore.images.decode import decode_image

LIMITS = Limits()
ORIENTATION = 0x0112


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def decode(data: bytes, limits: Limits = LIMITS) -> Image.Image:
    return decode_image(data, limits=limits, field="images.0")


def gradient(width: int = 12, height: int = 8) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 20, columns * 20, rows + columns], axis=-1).astype(np.uint8))


def png_bomb(width: int, height: int) -> bytes:
    """A valid PNG of black pixels, compressed about a thousandfold; only some rows are really there."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * (1 + 3 * width) * 64, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_lossless_formats_give_exactly_the_same_pixels(file_format: str) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    decoded = decode(encode(gradient(), file_format, **options))
    assert decoded.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(gradient()))


def test_jpeg_and_gif_decode() -> None:
    for file_format in ("JPEG", "GIF"):
        decoded = decode(encode(gradient(), file_format))
        assert (decoded.mode, decoded.size) == ("RGB", (12, 8))
        assert np.abs(np.asarray(decoded, float) - np.asarray(gradient(), float)).mean() < 20


@pytest.mark.parametrize("size", [(30_000, 30_000), (20_000, 18_000), (9_000, 9_000)])
def test_a_decompression_bomb_is_refused_at_its_header(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first makes Pillow raise, the second is 1 GB decoded, the third would only make Pillow silent."""
    data = png_bomb(*size)
    decode(encode(gradient(), "PNG"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded.append)
    with pytest.raises(LimitExceeded) as caught:
        decode(data)
    assert decoded == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000
    assert caught.value.unit == "pixels"
    assert caught.value.field == "images.0"
    assert caught.value.actual > LIMITS.image_pixels


def test_a_gif_frame_larger_than_its_header_is_refused() -> None:
    data = bytearray(encode(gradient(64, 64), "GIF"))
    data[6:10] = struct.pack("<HH", 4, 4)
    with pytest.raises(LimitExceeded):
        decode(bytes(data), Limits(image_pixels=100))


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    with pytest.raises(LimitExceeded) as caught:
        decode(b"\0" * 101, Limits(image_bytes=100))
    assert (caught.value.unit, caught.value.actual) == ("bytes", 101)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_truncated_files_are_undecodable(file_format: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encode(noise, file_format)
    with pytest.raises(UndecodableImage, match="export it again"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF89a", b"\x89PNG\r\n\x1a\n"],
)
def test_other_bytes_are_undecodable(data: bytes) -> None:
    with pytest.raises(UndecodableImage):
        decode(data)


def test_formats_outside_the_list_are_undecodable() -> None:
    for file_format in ("PPM", "ICO", "TGA", "PCX", "JPEG2000"):
        with pytest.raises(UndecodableImage, match="not recognized"):
            decode(encode(gradient(), file_format))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(30), "is HEIC.*convert it to PNG or JPEG"),
        (b"\0\0\0\x18ftypavif" + bytes(30), "is AVIF"),
        (b"\0\0\0\x18ftypisom" + bytes(30), "a video"),
        (b"PK\x03\x04" + bytes(30), "a zip, as .npz.*archives as `archive`"),
        (b"%PDF-1.7", "a PDF"),
        (b"\xef\xbb\xbf <!DOCTYPE html>", "XML, as SVG and web pages are"),
        (b"iVBORw0KGgo", "text in base64; |send the bytes themselves"),
        (bytes(344) + b"n+1\0", "NIfTI.*each slice"),
    ],
)
def test_other_formats_are_named_with_what_to_send(data: bytes, words: str) -> None:
    with pytest.raises(UndecodableImage, match=words):
        decode(data)


@settings(max_examples=150, deadline=None)
@given(
    file_format=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"]),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_raise_only_our_errors(file_format: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(encode(gradient(), file_format))
    for position, value in edits:
        data[position % len(data)] = value
    try:
        decoded = decode(bytes(data))
    except (UndecodableImage, LimitExceeded):
        return
    assert decoded.mode == "RGB"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_once(file_format: str, orientation: int) -> None:
    """The expectation follows the EXIF standard's table: where the 0th row and column of the file belong."""
    upright = np.zeros((48, 64, 3), np.uint8)
    upright[:16, :16] = 255  # white in the upper left corner
    upright[32:, :16] = (255, 0, 0)  # red in the lower left one
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 100} if file_format in {"JPEG", "WEBP"} else {}
    decoded = np.asarray(
        decode(encode(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif, **options))
    )
    assert decoded.shape == (48, 64, 3)
    assert np.abs(decoded.astype(float) - upright).mean() < 8


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    values = np.array([[0, 128, 129, 32768, 65407, 65535]], np.uint16)
    for file_format in ("PNG", "TIFF"):
        decoded = np.asarray(decode(encode(Image.fromarray(values), file_format)))
        np.testing.assert_array_equal(decoded[0, :, 0], np.round(values[0] / 257))
        assert (decoded == decoded[..., :1]).all()


def test_float_pixels_are_refused() -> None:
    with pytest.raises(UndecodableImage, match="8 or 16 bits"):
        decode(encode(Image.new("F", (4, 4), 0.5), "TIFF"))


def test_transparent_pixels_become_black() -> None:
    image = Image.new("RGBA", (2, 1), (200, 100, 50, 0))
    image.putpixel((1, 0), (200, 100, 50, 255))
    for file_format in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
        decoded = decode(encode(image, file_format, **options))
        assert decoded.getpixel((0, 0)) == (0, 0, 0)
        assert decoded.getpixel((1, 0)) == (200, 100, 50)


def test_transparent_palette_and_gray() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 100, 50, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    decoded = decode(encode(palette, "PNG", transparency=0))
    assert [decoded.getpixel((0, 0)), decoded.getpixel((1, 0))] == [(0, 0, 0), (10, 20, 30)]
    gray = decode(encode(Image.new("LA", (1, 1), (100, 128)), "PNG"))
    assert gray.getpixel((0, 0)) == (50, 50, 50)


def test_bilevel_gray_and_cmyk() -> None:
    assert decode(encode(Image.new("1", (1, 1), 1), "PNG")).getpixel((0, 0)) == (255, 255, 255)
    assert decode(encode(Image.new("L", (1, 1), 77), "PNG")).getpixel((0, 0)) == (77, 77, 77)
    assert decode(encode(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "TIFF")).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_of_several_frames_is_taken(file_format: str) -> None:
    first, second = Image.new("RGB", (8, 8), (250, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 250))
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encode(first, file_format, save_all=True, append_images=[second], **options)
    assert decode(data).getpixel((3, 3)) == (250, 0, 0)
