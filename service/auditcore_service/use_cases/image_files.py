"""Which files of a folder or an archive are images, and which names a file may have. Decodes nothing."""

from __future__ import annotations

import unicodedata

from auditcore.contracts.images import NAME_LENGTH
from auditcore.images.patient_data import is_dicom

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm", ".dicom", ".npy"}
)
"""Endings of files that count as images, whatever they contain; a damaged one is then excluded with its reason."""

HEADER_BYTES = 132
"""First bytes of a file that `has_image_header` needs."""

_HEADERS = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    b"\x93NUMPY",
)

_SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
_SYSTEM_FOLDERS = frozenset({"__macosx", "$recycle.bin", "system volume information", "@eadir"})

_NO_TEXT = frozenset({"\ufffe", "\uffff"})
"""Characters that are never text; XML, the format of JUnit reports, cannot hold them."""


def is_system_file(path: str) -> bool:
    """Whether an operating system or a network drive adds a file of this path to folders of photos.

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
    """Whether a file begins as a PNG, JPEG, GIF, TIFF, WebP, BMP, DICOM or NumPy file does.

    Args:
        header: The first `HEADER_BYTES` bytes of the file.
    """
    if header.startswith(_HEADERS) or is_dicom(header):
        return True
    if header[:4] == b"RIFF":
        return header[8:12] == b"WEBP"
    # two letters are little evidence: the two reserved fields of a bitmap are 0
    return header[:2] == b"BM" and header[6:10] == bytes(4)


def fault_of_name(name: str) -> str | None:
    """Why a file cannot have this name, in words that follow the name; None if it can.

    Every Unicode character is allowed that is text: also spaces of all widths, joiners and variation selectors, which
    screenshots and emoji bring along. Control characters are not, because terminals act on them.
    """
    if not name:
        return "is empty"
    for character in name:
        # category Cs: half of a surrogate pair, which UTF-8 cannot encode
        if unicodedata.category(character) in {"Cc", "Cs"} or character in _NO_TEXT:
            return f"contains the control character U+{ord(character):04X}"
    if len(name) > NAME_LENGTH:
        return f"is longer than {NAME_LENGTH} characters"
    return None
