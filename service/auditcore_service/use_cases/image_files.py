"""Which files of a folder or an archive are images, by name and by first bytes. Decodes nothing."""

from __future__ import annotations

from auditcore.images.patient_data import is_dicom
from auditcore.images.tensor_batches import TENSOR_SUFFIX, is_tensor_file

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm", ".dicom", ".npy", TENSOR_SUFFIX}
)
"""Endings of files that count as images, whatever they contain; a damaged one is then excluded with its reason."""

HEADER_BYTES = 132
"""First bytes of a file that `has_image_header` needs."""

_HEADERS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    b"\x93NUMPY",
)

_SYSTEM_FILES = frozenset(
    {".ds_store", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "dicomdir"}
)
_SYSTEM_FOLDERS = frozenset({"__macosx", "$recycle.bin", "system volume information", "@eadir"})


def is_system_file(path: str) -> bool:
    """Whether operating systems, network drives or CDs of DICOM files add a file of this path to folders of photos.

    Args:
        path: Relative path with slashes.
    """
    *folders, name = path.casefold().split("/")
    # ._cat.png is the resource fork of cat.png on macOS
    return name in _SYSTEM_FILES or name.startswith("._") or not _SYSTEM_FOLDERS.isdisjoint(folders)


def is_hidden(path: str) -> bool:
    """Whether a file, or a folder on its path, begins with a dot.

    Args:
        path: Relative path with slashes.
    """
    return any(part.startswith(".") and part not in {".", ".."} for part in path.split("/"))


def has_image_suffix(path: str) -> bool:
    """Whether the ending of a path is that of an image."""
    name = path.rsplit("/", 1)[-1]
    return any(name.lower().endswith(suffix) for suffix in IMAGE_SUFFIXES)


def has_image_header(header: bytes) -> bool:
    """Whether a file begins as a PNG, JPEG, GIF, TIFF, WebP, BMP, DICOM, NumPy or safetensors file does.

    Args:
        header: The first `HEADER_BYTES` bytes of the file.
    """
    if header.startswith(_HEADERS) or is_dicom(header) or is_tensor_file(header):
        return True
    if header[:4] == b"RIFF":
        return header[8:12] == b"WEBP"
    # two letters are little evidence: the two reserved fields of a bitmap are 0
    return header[:2] == b"BM" and header[6:10] == bytes(4)
