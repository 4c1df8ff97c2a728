"""Signatures of models, verified with OpenSSF model-signing against keys that the operator trusts.

A signature is a Sigstore bundle with a list of files and their digests. What is audited is pinned by its digest, so it
is the signed model if the signature holds and lists this digest. No file is hashed again, and the weights may be on
another machine.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.model_signature import ModelSignature, SignatureReference
from auditcore.errors import ModelSignatureInvalid, ModelSignatureUntrusted, UnreachableResource
from auditcore.sources.fetched_files import new_file
from auditcore.sources.fetching import BlobReader, read_resource

MOST_BYTES = 8 * 2**20
"""Largest signature: about 200 bytes for each signed file."""

_HEX = r"^[0-9a-f]{64}$"


class _Lenient(BaseModel):
    """A part of a signature; other versions of model-signing may add fields."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class _PublicKey(_Lenient):
    hint: str = Field(pattern=_HEX)


class _Material(_Lenient):
    key: _PublicKey = Field(alias="publicKey")


class _Envelope(_Lenient):
    payload: str


class _Bundle(_Lenient):
    """A Sigstore bundle with a key."""

    material: _Material = Field(alias="verificationMaterial")
    envelope: _Envelope = Field(alias="dsseEnvelope")


class _Digest(_Lenient):
    sha256: str = Field(pattern=_HEX)


class _Subject(_Lenient):
    name: str
    digest: _Digest


class _Serialization(_Lenient):
    method: str
    hash_type: str


class _Resource(_Lenient):
    digest: str


class _Predicate(_Lenient):
    serialization: _Serialization
    resources: tuple[_Resource, ...] = Field(min_length=1)


class _Statement(_Lenient):
    """The in-toto statement in a bundle: what was signed."""

    subject: tuple[_Subject, ...] = Field(min_length=1, max_length=1)
    predicate: _Predicate


_PEM = re.compile(rb"-----BEGIN PUBLIC KEY-----\s.*?-----END PUBLIC KEY-----", re.DOTALL)


def signature_of(reference: ModelReference) -> tuple[SignatureReference, str] | None:
    """The signature that a reference names, and its field in the request; None without one."""
    holder, place = _holder(reference)
    signature: SignatureReference | None = getattr(holder, "signature", None)
    return None if signature is None else (signature, f"{place}.signature")


def pin_signature(reference: ModelReference, access: AccessRules) -> ModelReference:
    """Verify a signature as far as this machine can, and pin its digest.

    Args:
        reference: The model, resolved. Files that only the workers can read have no digest yet; the workers verify
            them.
        access: What the operator allows and trusts.

    Raises:
        InputError: As `verify_signature`.
    """
    named = signature_of(reference)
    if named is None:
        return reference
    signature, place = named
    try:
        data = _read(signature, place, access, None)
    except UnreachableResource:
        if urlsplit(signature.uri).scheme not in {"file", "package", "blob"}:
            raise
        return reference
    files = _pinned_files(reference)
    _verified(data, place, access, files)
    pinned = signature.model_copy(update={"sha256": f"sha256:{hashlib.sha256(data).hexdigest()}"})
    holder, _ = _holder(reference)
    if holder is not reference:
        return reference.model_copy(update={"weights": holder.model_copy(update={"signature": pinned})})
    signed: ModelReference = reference.model_copy(update={"signature": pinned})
    return signed


def verify_signature(
    reference: ModelReference, access: AccessRules, blobs: BlobReader | None = None
) -> ModelSignature | None:
    """Verify the signature of a model that is about to be loaded.

    Args:
        reference: The model, with the digest of every file.
        access: What the operator allows and trusts.
        blobs: Reader of uploaded signatures, for `blob:` URIs.

    Returns:
        What was verified; None if the reference names no signature.

    Raises:
        ModelSignatureInvalid: The signature does not hold, or is for other files.
        ModelSignatureUntrusted: It holds at best for a key that the operator does not trust.
        InputError: It cannot be read.
    """
    named = signature_of(reference)
    if named is None:
        return None
    signature, place = named
    files = _pinned_files(reference)
    if not files:
        msg = "the model has no file with a digest that a signature could be for; remove `signature`"
        raise ModelSignatureInvalid(msg, field=place)
    return _verified(_read(signature, place, access, blobs), place, access, files)


def _holder(reference: ModelReference) -> tuple[Any, str]:
    """The part of a reference that names the file of the model, and its field."""
    weights = getattr(reference, "weights", None)
    return (reference, "model") if weights is None else (weights, "model.weights")


def _pinned_files(reference: ModelReference) -> list[str]:
    """Digests of the files of a model, as far as they are known."""
    holder, _ = _holder(reference)
    return [digest for digest in (holder.sha256, *(part.sha256 for part in getattr(holder, "parts", ()))) if digest]


def _read(signature: SignatureReference, place: str, access: AccessRules, blobs: BlobReader | None) -> bytes:
    return read_resource(
        signature.uri,
        access=access,
        field=f"{place}.uri",
        limit_bytes=MOST_BYTES,
        sha256=signature.sha256,
        blobs=blobs,
    )


def _verified(data: bytes, place: str, access: AccessRules, files: Sequence[str]) -> ModelSignature:
    """What a signature says, once it is known to hold and to list all of some digests."""
    key, statement = _parsed(data, place)
    trusted = dict(_trusted_keys(access.model_keys, place))
    if key not in trusted:
        known = ", ".join(trusted) or "none"
        msg = (
            f"the model is signed with key {key}, which the operator does not trust (trusted: {known}); the operator "
            "can add the file with its public half (AUDIT_MODEL_KEYS)"
        )
        raise ModelSignatureUntrusted(msg, field=place)
    _require_signature(data, trusted[key], place)
    serialization = statement.predicate.serialization
    if (serialization.method, serialization.hash_type) != ("files", "sha256"):
        msg = "the signature lists no sha256 of whole files; sign the model with the defaults of model-signing"
        raise ModelSignatureInvalid(msg, field=place)
    signed = {f"sha256:{one.digest}" for one in statement.predicate.resources}
    other = next((digest for digest in files if digest not in signed), None)
    if other is not None:
        msg = (
            f"the signature is for other files: the model has a file with digest {other}, which was not signed; send "
            "the files that were signed, or sign the model again"
        )
        raise ModelSignatureInvalid(msg, field=place)
    (subject,) = statement.subject
    return ModelSignature(
        key=f"sha256:{key}",
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}",
        name=subject.name,
        model_digest=f"sha256:{subject.digest.sha256}",
        signed_files=len(statement.predicate.resources),
    )


def _parsed(data: bytes, place: str) -> tuple[str, _Statement]:
    """The id of the key that a bundle names, and the statement in it. Nothing of them is verified."""
    try:
        bundle = _Bundle.model_validate_json(data)
        statement = _Statement.model_validate_json(base64.b64decode(bundle.envelope.payload, validate=True))
    except ValueError as error:
        msg = (
            "this is no signature of model-signing 1.0 or later that was made with a key; sign the model with "
            "`model_signing sign key`; certificates and identities of Sigstore are not supported"
        )
        raise ModelSignatureInvalid(msg, field=place) from error
    return bundle.material.key.hint, statement


def _trusted_keys(files: Sequence[Path], place: str) -> Iterator[tuple[str, Path]]:
    """Id and file of each trusted key; the id is computed as model-signing does."""
    for file in files:
        try:
            found = _PEM.search(file.read_bytes())
        except OSError as error:
            msg = (
                f"the trusted key {file.name} cannot be read ({error.strerror}); the operator must fix AUDIT_MODEL_KEYS"
            )
            raise UnreachableResource(msg, field=place) from error
        if found is None:
            msg = f"the trusted key {file.name} is no public key in PEM; the operator must fix AUDIT_MODEL_KEYS"
            raise UnreachableResource(msg, field=place)
        pem = found.group().replace(b"\r\n", b"\n") + b"\n"
        yield hashlib.sha256(pem).hexdigest(), file


def _require_signature(data: bytes, key: Path, place: str) -> None:
    """Refuse a bundle whose signature was not made with a key.

    The public interface of model-signing hashes a folder on this machine, which need not have the model; its verifier
    of keys takes only the bundle.
    """
    try:
        from model_signing._signing.sign_ec_key import Verifier  # noqa: PLC0415 - an extra
        from model_signing._signing.sign_sigstore_pb import Signature  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = f"the model is signed, and this machine cannot verify that ({error}); install auditcore[signing]"
        raise UnreachableResource(msg, field=place) from error
    with new_file() as (file, keep):
        file.write(data)
        path = keep(hashlib.sha256(data).hexdigest())
    try:
        # it warns of old signatures on stdout, which programs read
        with contextlib.redirect_stdout(sys.stderr):
            Verifier(key).verify(Signature.read(path))
    except Exception as error:  # parsers and cryptography raise errors of many kinds
        msg = f"the signature does not hold ({str(error) or type(error).__name__}); sign the model again"
        raise ModelSignatureInvalid(msg, field=place) from error
