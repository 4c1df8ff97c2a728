from __future__ import annotations

import errno
import hashlib
import io
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import s3fs

from auditcore.errors import DigestMismatch, UnreachableResource
from auditcore_service.store.blobs import BlobStore, BlobStoreUnavailable
from s3_server import s3

DATA = b"bytes of an image"
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"

FROM_BYTES: Callable[[BlobStore, bytes], str] = BlobStore.put


def from_file(store: BlobStore, data: bytes) -> str:
    return store.put_file(io.BytesIO(data))


writers = pytest.mark.parametrize("put", [FROM_BYTES, from_file])


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    # a client of another server, which has stopped, would be found in fsspec's cache
    s3fs.S3FileSystem.clear_instance_cache()
    with s3({"blobs": {}}):
        yield "s3://blobs"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        return BlobStore(f"file://{tmp_path}/blobs")
    return BlobStore(f"{request.getfixturevalue('bucket')}/{uuid.uuid4()}")


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@writers
def test_what_is_stored_is_read(store: BlobStore, put: Callable[[BlobStore, bytes], str]) -> None:
    large = os.urandom(3 * 2**20 + 1)
    assert put(store, DATA) == DIGEST
    assert store.get(DIGEST) == DATA
    assert store.get(put(store, large)) == large
    assert store.get_start(DIGEST, 5) == (b"bytes", len(DATA))
    assert store.get_start(DIGEST, 500) == (DATA, len(DATA))
    assert [blob.size_bytes for blob in store.list_stored() if blob.digest == DIGEST] == [len(DATA)]


def test_no_header_of_what_is_not_stored(store: BlobStore) -> None:
    with pytest.raises(UnreachableResource, match="nothing is stored"):
        store.get_start(DIGEST, 5)
    with pytest.raises(UnreachableResource, match="is not a digest"):
        store.get_start("sha256:../../etc/passwd", 5)


@writers
def test_a_damaged_file_of_equal_size_is_written_again(tmp_path: Path, put: Callable[[BlobStore, bytes], str]) -> None:
    store = BlobStore(f"file://{tmp_path}")
    put(store, DATA)
    (file,) = files_below(tmp_path)
    file.write_bytes(b"X" * len(DATA))
    assert put(store, DATA) == DIGEST
    assert store.get(DIGEST) == DATA


def test_what_a_reader_finds_damaged_is_written_again(store: BlobStore) -> None:
    store.put(DATA)
    (path,) = store._fs.find(store._root)
    store._fs.pipe_file(path, b"X" * len(DATA))
    with pytest.raises(DigestMismatch):
        store.get(DIGEST)
    with pytest.raises(UnreachableResource, match="upload it first"):
        store.get(DIGEST)
    store.put(DATA)
    assert store.get(DIGEST) == DATA
    # the damaged bytes of a folder are kept for a while, and then collected with what killed writers left
    store.delete_parts(before=2e10)
    assert len(store._fs.find(store._root)) == 1


def test_right_bytes_are_not_taken_for_damaged(store: BlobStore) -> None:
    store.put(DATA)
    # as if another writer had repaired the blob just after this reader found it damaged
    store._forget_damaged(DIGEST)
    assert store.get(DIGEST) == DATA


@writers
def test_a_full_disk_leaves_no_half_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[BlobStore, bytes], str]
) -> None:
    store = BlobStore(f"file://{tmp_path}")

    def full(source: BinaryIO, target: BinaryIO, _length: int) -> None:
        data = source.read()
        target.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copyfileobj", full)
        with pytest.raises(BlobStoreUnavailable, match="No space left") as caught:
            put(store, DATA)
    assert caught.value.errno == errno.ENOSPC
    assert files_below(tmp_path) == []
    assert store.get(put(store, DATA)) == DATA
    assert len(files_below(tmp_path)) == 1


def test_a_limit_on_files_leaves_no_half_file_behind(tmp_path: Path) -> None:
    program = f"""
import io, resource, signal
from auditcore_service.store.blobs import BlobStore, BlobStoreUnavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
store = BlobStore("file://{tmp_path}")
for put in (lambda: store.put(b"x" * 100000), lambda: store.put_file(io.BytesIO(b"y" * 100000))):
    try:
        put()
    except BlobStoreUnavailable as error:
        print(error.errno)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EFBIG)] * 2
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("found", ["nothing", "not synced yet"])
def test_what_is_stored_has_reached_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    store = BlobStore(f"file://{tmp_path}")
    if found == "not synced yet":
        # by another writer, who has not waited for the disk yet
        store.write(DATA)
    reached: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        reached.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.put(DATA)
    (file,) = files_below(tmp_path)
    assert reached == [str(file), str(file.parent)]


def test_a_check_leaves_nothing_behind(store: BlobStore) -> None:
    store.check()
    store.check()
    assert store._fs.find(store._root) == []
    assert list(store.list_stored()) == []


def test_a_check_finds_a_store_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")
    with pytest.raises(BlobStoreUnavailable):
        BlobStore(f"file://{tmp_path}/blobs").check()
    store = BlobStore(f"file://{tmp_path}/others")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BlobStoreUnavailable, match="No space left"):
        store.check()
    assert files_below(tmp_path / "others") == []


def test_a_store_that_is_away_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # a port that nothing listens on
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    store = BlobStore("s3://bucket-that-is-away/blobs")
    calls: tuple[Callable[[], object], ...] = (
        store.check,
        lambda: store.put(DATA),
        lambda: store.put_file(io.BytesIO(DATA)),
        lambda: store.get(DIGEST),
        lambda: store.get_start(DIGEST, 5),
        lambda: list(store.list_stored()),
    )
    for call in calls:
        with pytest.raises(BlobStoreUnavailable, match="the blob store cannot be used"):
            call()


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    program = f"""
import resource
from auditcore_service.store.blobs import BlobStore
store = BlobStore("file://{tmp_path}/blobs")
with open("{tmp_path}/large", "wb") as file:
    file.truncate(200 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(2):
    with open("{tmp_path}/large", "rb") as file:
        store.put_file(file)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * 2**10
