"""Ed25519 keys and DSSE envelopes.

An envelope of DSSE (Dead Simple Signing Envelope, github.com/secure-systems-lab/dsse, version 1) holds bytes, their
type and a signature over both. `securesystemslib` makes, signs and verifies it; `cryptography` reads the keys.

Here an envelope has exactly one signature, and its file is canonical JSON (RFC 8785). So there is one file for what is
signed: if any byte of it changes, it no longer holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import Field, ValidationError
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from auditcore.contracts.canonical_json import canonical_json
from auditcore.contracts.contract import Contract


class KeyUnreadable(ValueError):
    """Bytes that are no Ed25519 key in PEM."""


class EnvelopeUnreadable(ValueError):
    """Bytes that are no DSSE envelope with one signature."""


class SignatureInvalid(ValueError):
    """An envelope whose signature does not hold."""


@final
class EnvelopeSignature(Contract):
    """The signature of an envelope.

    Attributes:
        keyid: Id of the key that signed.
        sig: The signature, base64.
    """

    keyid: str
    sig: str


@final
class SignedEnvelope(Contract):
    """A DSSE envelope: bytes, their type, and a signature over both.

    Attributes:
        payload: What is signed, base64.
        signatures: The signature; always one.
    """

    payload: str
    payload_type: str = Field(alias="payloadType", description="Media type of the payload.")
    signatures: tuple[EnvelopeSignature, ...] = Field(min_length=1, max_length=1)


@final
class PublicKey:
    """The public half of a key.

    Attributes:
        key_id: sha256 of its type and value in canonical JSON, as securesystemslib computes it: 64 hexadecimal digits.
        pem: The key in PEM (SubjectPublicKeyInfo).
    """

    def __init__(self, key: Ed25519PublicKey) -> None:
        self.verifier = SSlibKey.from_crypto(key)
        self.key_id: str = self.verifier.keyid
        self.pem: str = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @classmethod
    def from_pem(cls, data: bytes) -> PublicKey:
        """The key in a PEM file; of a private key, its public half.

        Raises:
            KeyUnreadable: It is not the PEM of an Ed25519 key.
        """
        if b"PRIVATE KEY" in data:
            return cls(_private_key(data).public_key())
        try:
            key = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm) as error:
            msg = f"this is no public key in PEM ({error}); `auditcore signing-key FILE` prints one"
            raise KeyUnreadable(msg) from error
        if not isinstance(key, Ed25519PublicKey):
            msg = "this is a public key, but not of Ed25519; `auditcore signing-key FILE` prints one"
            raise KeyUnreadable(msg)
        return cls(key)


@final
class SigningKey:
    """A private Ed25519 key.

    Attributes:
        public: Its public half.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._signer = CryptoSigner(key)
        self.public = PublicKey(key.public_key())

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key, from the random numbers of the operating system."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, data: bytes) -> SigningKey:
        """The key in a PEM file.

        Raises:
            KeyUnreadable: It is not the PEM of a private Ed25519 key without a password.
        """
        return cls(_private_key(data))

    def to_pem(self) -> bytes:
        """The key in PEM (PKCS #8), without a password."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, payload: bytes, *, payload_type: str) -> bytes:
        """The envelope of a payload, in canonical JSON; the same payload gives the same bytes."""
        envelope = Envelope(payload, payload_type, {})
        envelope.sign(self._signer)
        return canonical_json(envelope.to_dict())


def read_envelope(data: bytes) -> SignedEnvelope:
    """The envelope in a file; its signature is not verified.

    Raises:
        EnvelopeUnreadable: It is no DSSE envelope with one signature.
    """
    try:
        return SignedEnvelope.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        msg = f"this is no DSSE envelope with one signature: {place}: {first['msg']}; fetch the evidence again"
        raise EnvelopeUnreadable(msg) from error


def payload_of(envelope: SignedEnvelope) -> bytes:
    """What an envelope holds; its signature is not verified.

    Raises:
        EnvelopeUnreadable: The payload is not base64.
    """
    return _envelope(envelope).payload


def verify_envelope(data: bytes, keys: Sequence[PublicKey], *, payload_type: str) -> str:
    """Verify the signature of an envelope.

    Args:
        data: The file.
        keys: Keys that are trusted.
        payload_type: Type that the payload must have.

    Returns:
        Id of the key that signed.

    Raises:
        EnvelopeUnreadable: It is no DSSE envelope with one signature.
        SignatureInvalid: The type is another, no trusted key has signed, or the file is not the one that was written.
    """
    document = read_envelope(data)
    envelope = _envelope(document)
    key_id = document.signatures[0].keyid
    if document.payload_type != payload_type:
        msg = f"the payload is {document.payload_type!r}, and {payload_type!r} was expected"
        raise SignatureInvalid(msg)
    if key_id not in {key.key_id for key in keys}:
        msg = f"key {key_id!r} signed, and its public key was not given; GET /v1/keys of the service lists its keys"
        raise SignatureInvalid(msg)
    try:
        envelope.verify([key.verifier for key in keys], 1)
    except VerificationError as error:
        msg = f"the signature of key {key_id!r} does not hold: what was signed has been changed"
        raise SignatureInvalid(msg) from error
    if data != canonical_json(envelope.to_dict()):
        msg = "the file is not in canonical JSON (RFC 8785), as it was written; fetch it again and do not reformat it"
        raise SignatureInvalid(msg)
    return key_id


def _envelope(document: SignedEnvelope) -> Envelope:
    try:
        return Envelope.from_dict(document.model_dump(mode="json", by_alias=True))
    except ValueError as error:
        msg = f"the payload or signature of the envelope is not base64 ({error}); fetch the evidence again"
        raise EnvelopeUnreadable(msg) from error


def _private_key(data: bytes) -> Ed25519PrivateKey:
    remedy = "make one with `auditcore signing-key FILE --create`"
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # the error says what is wrong with the file, and never quotes it
        msg = f"this is no private key in PEM without a password ({error}); {remedy}"
        raise KeyUnreadable(msg) from error
    if not isinstance(key, Ed25519PrivateKey):
        msg = f"this is a private key, but not of Ed25519; {remedy}"
        raise KeyUnreadable(msg)
    return key
