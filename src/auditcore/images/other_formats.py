"""Formats that people send and an audit does not read, by their first bytes: what to do instead."""

from __future__ import annotations

_CONVERT = "convert it to PNG or TIFF"
_PHOTO = "convert it to PNG or JPEG"

_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip, as .npz and .pt files are too", "send arrays as .npy, and archives as `archive`"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it"),
    (b"%PDF", "a PDF", "export the picture in it as PNG"),
    (b"%!PS", "PostScript", _CONVERT),
    (b"\x89HDF\r\n", "HDF5", "save each image with numpy.save"),
    *((bytes((0x80, protocol)), "a pickle of Python", "save each image with numpy.save") for protocol in (2, 3, 4, 5)),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000", _CONVERT),
    (b"\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    (b"\xff\x0a", "JPEG XL", _PHOTO),
    (b"\x00\x00\x00\x0cJXL ", "JPEG XL", _PHOTO),
    (b"8BPS", "the format of Photoshop", _CONVERT),
    (b"\x76\x2f\x31\x01", "OpenEXR", "save it as TIFF of floating point"),
    (b"<", "XML, as SVG and web pages are", "export the picture as PNG, or check where the file comes from"),
    (b"iVBOR", "text in base64", "send the bytes themselves"),
    (b"/9j/", "text in base64", "send the bytes themselves"),
    (b"data:", "a data URI", "send the bytes themselves"),
)

_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}
"""Kinds of the container of MPEG-4 that are photos, as phones save them."""

_LOOKED_AT = 1024
"""First bytes of a text, which may begin with a byte order mark and blank lines."""

_NIFTI_AT = 344
_NIFTI = (b"n+1\0", b"ni1\0")


def fault_of_format(data: bytes) -> str | None:
    """What a file is and what to send instead, if it has a format that people send and that is not read; else None."""
    start = data[:_LOOKED_AT].removeprefix(b"\xef\xbb\xbf").lstrip()
    for beginning, name, remedy in _BEGINNINGS:
        if data.startswith(beginning) or start.startswith(beginning):
            return f"the file is {name}, a format that is not recognized as an image; {remedy}"
    if data[4:8] == b"ftyp":
        name = _BRANDS.get(data[8:12], "a video or another kind of MPEG-4")
        return f"the file is {name}, a format that is not recognized as an image; {_PHOTO}"
    if data[_NIFTI_AT : _NIFTI_AT + 4] in _NIFTI:
        return "the file is NIfTI, a volume; save each slice as TIFF, or with numpy.save"
    return None
