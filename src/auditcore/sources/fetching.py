"""Bytes behind a URI: only from allowed places, up to a size limit, and with the digest that the request gives.

A request names weights and images; only this module opens what it names.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from auditcore.contracts.access import STORAGE_SCHEMES, AccessRules
from auditcore.errors import UnreachableResource
from auditcore.sources.fetched_files import new_file, private_folder
from auditcore.sources.https import PUBLIC_HTTPS, HttpsPolicy, stream_https
from auditcore.sources.local_files import local_file, pin_file
from auditcore.sources.object_stores import hash_object, stream_object
from auditcore.sources.placeholders import refuse_placeholder
from auditcore.sources.proxies import proxy_in_use
from auditcore.sources.verification import check_digest, check_size, digest_field

BlobReader = Callable[[str], bytes]
"""From a content address `sha256:...` to the bytes stored under it; raises LookupError or OSError without them."""


_LOCAL = frozenset({"file", "package"})
"""Schemes of files of this machine."""


def open_resource(
    uri: str,
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
    sha256: str | None = None,
    blobs: BlobReader | None = None,
    https: HttpsPolicy = PUBLIC_HTTPS,
    folder: Path | None = None,
) -> Path:
    """A local file with the bytes behind a URI, verified.

    `file:` and `package:` give the file itself: read it, never write it. `https:` and `blob:` give a private copy
    named after its digest. It is removed when the process ends, or after `KEPT_FILES` newer copies; read it soon. In a
    process that fetches through another one (`sources.proxies`), that one makes the copy.

    Args:
        uri: `file:///path`, `package:import_name/path/inside`, `https://...`, `blob:sha256:...`, or an object such as
            `s3://bucket/key`.
        access: What the operator allows; checked before anything is opened.
        field: Path of the URI in the request, for errors.
        limit_bytes: Most bytes accepted.
        sha256: Digest that the bytes must have, `sha256:...`; None accepts any bytes.
        blobs: Store of uploaded bytes; without it `blob:` is unreachable.
        https: How `https:` is spoken.
        folder: Where to put a copy, which is then always a new one; the private folder of this process if None.

    Raises:
        UnsafeReference: The URI, or the address its host resolves to, is not allowed.
        UnreachableResource: The bytes could not be read.
        LimitExceeded: There are more than `limit_bytes`.
        DigestMismatch: The bytes have another digest than `sha256`.
        ModelNotLoadable: They are a pointer of Git LFS or a web page in place of a file, or there are none.
    """
    path = _opened(
        uri,
        access=access,
        field=field,
        limit_bytes=limit_bytes,
        sha256=sha256,
        blobs=blobs,
        https=https,
        folder=folder,
    )
    refuse_placeholder(path, field=field)
    return path


def _opened(
    uri: str,
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
    sha256: str | None,
    blobs: BlobReader | None,
    https: HttpsPolicy,
    folder: Path | None,
) -> Path:
    """A local file with any bytes behind a URI."""
    access.check_uri(uri, field=field)
    scheme, proxy = urlsplit(uri).scheme, proxy_in_use()
    if proxy is not None and scheme not in _LOCAL:
        return proxy.open(uri, field=field, limit_bytes=limit_bytes, sha256=sha256)
    match scheme:
        case "file" | "package":
            path = local_file(uri, field=field)
            check_size(path.stat().st_size, limit_bytes, field)
            if sha256 is not None:
                with path.open("rb") as file:
                    check_digest(hashlib.file_digest(file, "sha256").hexdigest(), sha256, digest_field(field))
            return path
        case "blob":
            data = _read_blob(uri, blobs, limit_bytes=limit_bytes, field=field)
            digest = hashlib.sha256(data).hexdigest()
            check_digest(digest, sha256, digest_field(field))
            with new_file(folder) as (file, keep):
                file.write(data)
                return keep(digest)
        case scheme:
            kept = None if folder is not None or sha256 is None else private_folder() / sha256.removeprefix("sha256:")
            if kept is not None and kept.exists():
                check_size(kept.stat().st_size, limit_bytes, field)
                kept.touch()  # so that it is removed last
                return kept
            with new_file(folder) as (file, keep):
                if scheme in STORAGE_SCHEMES:
                    digest = stream_object(uri, file.write, limit_bytes=limit_bytes, field=field)
                else:
                    digest = stream_https(uri, file.write, limit_bytes=limit_bytes, field=field, https=https)
                check_digest(digest, sha256, digest_field(field))
                return keep(digest)


def read_resource(
    uri: str,
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
    sha256: str | None = None,
    blobs: BlobReader | None = None,
    https: HttpsPolicy = PUBLIC_HTTPS,
) -> bytes:
    """The bytes behind a URI, in memory; for images. Arguments and errors are those of `open_resource`."""
    access.check_uri(uri, field=field)
    scheme, proxy = urlsplit(uri).scheme, proxy_in_use()
    if proxy is not None and scheme not in _LOCAL:
        return proxy.open(uri, field=field, limit_bytes=limit_bytes, sha256=sha256).read_bytes()
    match scheme:
        case "file" | "package":
            path = local_file(uri, field=field)
            check_size(path.stat().st_size, limit_bytes, field)
            data = path.read_bytes()
        case "blob":
            data = _read_blob(uri, blobs, limit_bytes=limit_bytes, field=field)
        case scheme:
            memory = io.BytesIO()
            if scheme in STORAGE_SCHEMES:
                stream_object(uri, memory.write, limit_bytes=limit_bytes, field=field)
            else:
                stream_https(uri, memory.write, limit_bytes=limit_bytes, field=field, https=https)
            data = memory.getvalue()
    check_digest(hashlib.sha256(data).hexdigest(), sha256, digest_field(field))
    return data


def pin_resource(  # noqa: PLR0911 - one for each place
    uri: str,
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
    sha256: str | None = None,
    https: HttpsPolicy = PUBLIC_HTTPS,
) -> str | None:
    """The sha256 of what is behind a URI now, so that workers read the same bytes later.

    A file that this machine does not have may be on the machines of the workers. It stays unpinned, and the workers
    check it.
    Arguments and errors are those of `open_resource`.

    Returns:
        `sha256:...`. A given digest is returned without reading anything; None if this machine cannot read the bytes.
    """
    access.check_uri(uri, field=field)
    match urlsplit(uri).scheme:
        case _ if sha256 is not None:
            return sha256
        case "blob":
            return uri.partition(":")[2]
        case "file" | "package":
            return pin_file(uri, limit_bytes=limit_bytes, field=field)
        case "random":
            return None
        case _ if (proxy := proxy_in_use()) is not None:
            return proxy.pin(uri, field=field, limit_bytes=limit_bytes)
        case "https":
            return f"sha256:{stream_https(uri, _forget, limit_bytes=limit_bytes, field=field, https=https)}"
        case _:
            return hash_object(uri, limit_bytes=limit_bytes, field=field)


def _forget(_: bytes) -> None:
    """Drop the bytes: pinning needs only their digest, and must not fill the disk."""


def _read_blob(uri: str, blobs: BlobReader | None, *, limit_bytes: int, field: str) -> bytes:
    digest = uri.partition(":")[2]
    if blobs is None:
        msg = "blob: names uploaded bytes, and there is no store of them here; use file:, package: or https:"
        raise UnreachableResource(msg, field=field)
    try:
        data = blobs(digest)
    except (LookupError, OSError) as error:
        msg = f"nothing is stored under {digest}; upload it first"
        raise UnreachableResource(msg, field=field) from error
    check_size(len(data), limit_bytes, field)
    check_digest(hashlib.sha256(data).hexdigest(), digest, field)
    return data
