"""Files that stand for another file: pointers of Git LFS and web pages, told apart by their first bytes."""

from __future__ import annotations

from pathlib import Path

from auditcore.errors import ModelNotLoadable

_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html")
_MOST_BYTES = 64


def refuse_placeholder(path: Path, *, field: str) -> None:
    """Refuse a file that a download has left in place of a model.

    Raises:
        ModelNotLoadable: It is a pointer of Git LFS, a web page, or empty.
    """
    with path.open("rb") as file:
        start = file.read(_MOST_BYTES)
    if start.startswith(_POINTER):
        msg = "the file is a pointer of Git LFS, not the file itself; run `git lfs pull`, or download the file"
    elif start.lstrip().lower().startswith(_PAGES):
        msg = (
            "the file is a web page, not a model; download it from its direct address, such as `resolve` in place of "
            "`blob` on the Hugging Face Hub"
        )
    elif not start:
        msg = "the file is empty; download or save it again"
    else:
        return
    raise ModelNotLoadable(msg, field=field)
