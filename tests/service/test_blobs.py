from __future__ import annotations

import errno
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from auditcore_service.store.blobs import BlobStore


def test_a_full_disk_leaves_no_half_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = BlobStore(f"file://{tmp_path}")

    def full(_fs: LocalFileSystem, path: str, value: bytes) -> None:
        Path(path).write_bytes(value[: len(value) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "pipe_file", full)
        with pytest.raises(OSError, match="No space left"):
            store.put(b"bytes of an image")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert store.get(store.put(b"bytes of an image")) == b"bytes of an image"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1
