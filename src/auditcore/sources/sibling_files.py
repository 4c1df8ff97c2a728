"""Files that a file names: only by a plain name, in the same folder or prefix, and under the same rules of access."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from auditcore.contracts.access import AccessRules
from auditcore.contracts.file_parts import FilePart
from auditcore.errors import DigestMismatch, InvalidRequest, LimitExceeded, UnreachableResource, UnsafeReference
from auditcore.sources.fetching import pin_resource, read_resource

MOST_SIBLINGS: Final = 1000
"""Most files that one file may name."""

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]{0,254}")


def sibling_uri(uri: str, name: str, *, field: str) -> str:
    """The URI of a file in the folder of another one.

    Args:
        uri: URI of the file that names it.
        name: Its name.
        field: Path of `uri` in the request, for errors.

    Raises:
        UnsafeReference: The name is not a plain file name, so it could lead elsewhere.
        UnreachableResource: The URI has no folder.
    """
    if _PLAIN.fullmatch(name) is None:
        msg = (
            f"{uri} names {name[:100]!r}, which is not the plain name of a file; "
            "put the files into one folder and name them without a path"
        )
        raise UnsafeReference(msg, field=field)
    scheme = urlsplit(uri).scheme
    if scheme == "blob" or "?" in uri or "#" in uri:
        msg = (
            f"the file names another one, {name!r}, and there is nothing beside {uri}; "
            "save all of it in one file, or name a file of a folder"
        )
        raise UnreachableResource(msg, field=field)
    folder = uri.rpartition("/")[0]
    return f"{folder}/{quote(name) if scheme in {'file', 'https'} else name}"


def read_sibling(
    uri: str, name: str, parts: Sequence[FilePart], *, access: AccessRules, field: str, limit_bytes: int
) -> bytes:
    """The bytes of a file beside another one, with the digest that the request pins.

    Args:
        uri: URI of the file that names it.
        name: Its name.
        parts: Pinned digests; without any, the bytes are not checked.
        access: What the operator allows; the file must be allowed itself.
        field: Path of `uri` in the request, for errors.
        limit_bytes: Most bytes accepted.

    Raises:
        InvalidRequest: `parts` pins other files, and not this one.
        DigestMismatch: The bytes have another digest.
        InputError: As `read_resource`.
    """
    digests = {part.name: part.sha256 for part in parts}
    if digests and name not in digests:
        raise _unpinned(name, field)
    try:
        return read_resource(
            sibling_uri(uri, name, field=field),
            access=access,
            field=field,
            limit_bytes=limit_bytes,
            sha256=digests.get(name),
        )
    except DigestMismatch as error:
        error.field = parts_field(field)
        raise


def pin_siblings(
    uri: str,
    names: Iterable[str],
    parts: Sequence[FilePart],
    *,
    access: AccessRules,
    field: str,
    limit_bytes: int,
) -> tuple[FilePart, ...]:
    """The digests of the files that a file names.

    Args:
        uri: URI of the file that names them.
        names: Their names.
        parts: Digests that the request gives; without any, they are looked up.
        access: What the operator allows; each file must be allowed itself.
        field: Path of `uri` in the request, for errors.
        limit_bytes: Most bytes of one file.

    Raises:
        InvalidRequest: `parts` does not name the same files.
        UnreachableResource: A file is not there.
        LimitExceeded: There are too many files, or one is too large.
        InputError: As `pin_resource`.
    """
    listed = sorted(set(names))
    if len(listed) > MOST_SIBLINGS:
        raise LimitExceeded(what="the model", limit=MOST_SIBLINGS, actual=len(listed), unit="files", field=field)
    given = {part.name: part.sha256 for part in parts}
    for name in listed:
        if given and name not in given:
            raise _unpinned(name, field)
    for name in given:
        if name not in listed:
            msg = f"{uri} does not name {name!r}; remove it from `parts`, or leave `parts` out"
            raise InvalidRequest(msg, field=parts_field(field))
    found = []
    for name in listed:
        beside = sibling_uri(uri, name, field=field)
        digest = pin_resource(beside, access=access, field=field, limit_bytes=limit_bytes, sha256=given.get(name))
        if digest is None:
            msg = f"{uri} names {name!r}, and no file can be read at {beside}; copy it there, or save one file"
            raise UnreachableResource(msg, field=field)
        found.append(FilePart(name=name, sha256=digest))
    return tuple(found)


def parts_field(field: str) -> str:
    """The field of the pinned digests, for the field of the URI."""
    return f"{field.removesuffix('uri')}parts"


def _unpinned(name: str, field: str) -> InvalidRequest:
    msg = f"`parts` has no digest of {name!r}, which the file names; add it, or leave `parts` out"
    return InvalidRequest(msg, field=parts_field(field))
