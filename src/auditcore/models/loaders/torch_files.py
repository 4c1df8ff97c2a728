"""Kinds of files of PyTorch that are no weights, told apart by their content and refused."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import NoReturn

from auditcore.errors import ModelNotLoadable, UnsafeReference
from auditcore.models.zip_files import entries_of, is_zip


def looks_like_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript program, whose code PyTorch would run."""
    names = [entry.filename for entry in entries_of(path)]
    return any(name.endswith("/constants.pkl") or "/code/" in name for name in names)


def refuse_torchscript(*, field: str) -> NoReturn:
    """Refuse a program where weights are expected.

    Raises:
        UnsafeReference: Always.
    """
    msg = "the file is a TorchScript program, so opening it could run code; save `model.state_dict()` instead"
    raise UnsafeReference(msg, field=field)


def refuse_unusual_archives(path: Path, *, field: str) -> None:
    """Refuse archives that no PyTorch since 0.1 writes, and that torch.load would unpack without a limit.

    Raises:
        ModelNotLoadable: The archive is a tar, or compressed, so that a few bytes could grow to any size; or its
            directory cannot be read, so that nobody knows.
    """
    if is_zip(path):
        entries = entries_of(path)
        if not entries:
            msg = "the file is a zip archive without a directory that can be read; save the weights again"
            raise ModelNotLoadable(msg, field=field)
        squeezed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
        if squeezed:
            msg = f"the file is compressed ({squeezed[0]}), which PyTorch never does; save the weights again"
            raise ModelNotLoadable(msg, field=field)
    elif tarfile.is_tarfile(path):
        msg = "the file is a tar archive, as of PyTorch 0.1; save `model.state_dict()`, best as safetensors"
        raise ModelNotLoadable(msg, field=field)
