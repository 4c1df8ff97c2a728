"""Keys and envelopes."""

from __future__ import annotations

import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from auditcore.contracts.canonical_json import canonical_json
from auditcore.evidence.signing import KeyUnreadable, PublicKey, SignatureInvalid, SigningKey, verify_envelope

KEY = SigningKey.generate()
OF_ANOTHER_KIND = ec.generate_private_key(ec.SECP256R1())


def test_a_key_survives_its_file_and_signs_the_same() -> None:
    again = SigningKey.from_pem(KEY.to_pem())
    assert again.public.key_id == KEY.public.key_id
    assert again.sign(b"x", payload_type="t") == KEY.sign(b"x", payload_type="t")


def test_a_key_id_follows_from_the_key() -> None:
    value = {"public": KEY.public.verifier.keyval["public"]}
    described = canonical_json({"keytype": "ed25519", "scheme": "ed25519", "keyval": value})
    assert KEY.public.key_id == hashlib.sha256(described).hexdigest()


def test_only_the_expected_type_of_payload_is_accepted() -> None:
    envelope = KEY.sign(b"x", payload_type="a")
    assert verify_envelope(envelope, [KEY.public], payload_type="a") == KEY.public.key_id
    with pytest.raises(SignatureInvalid, match="'b' was expected"):
        verify_envelope(envelope, [KEY.public], payload_type="b")


def test_a_key_id_that_another_key_claims_is_not_enough() -> None:
    other = SigningKey.generate()
    envelope = json.loads(other.sign(b"x", payload_type="a"))
    envelope["signatures"][0]["keyid"] = KEY.public.key_id
    with pytest.raises(SignatureInvalid, match="does not hold"):
        verify_envelope(canonical_json(envelope), [KEY.public], payload_type="a")
    with pytest.raises(SignatureInvalid, match="was not given"):
        verify_envelope(canonical_json(envelope), [], payload_type="a")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        KEY.public.pem.encode(),
        OF_ANOTHER_KIND.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        load_pem_private_key(KEY.to_pem(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        ),
    ],
)
def test_what_is_no_signing_key_is_refused_with_the_way_out(data: bytes) -> None:
    with pytest.raises(KeyUnreadable, match="auditcore signing-key FILE --create") as caught:
        SigningKey.from_pem(data)
    assert data.decode().strip() not in str(caught.value) or not data


@pytest.mark.parametrize(
    "data",
    [
        b"ssh-ed25519 AAAA",
        OF_ANOTHER_KIND.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
)
def test_what_is_no_public_key_is_refused_with_the_way_out(data: bytes) -> None:
    with pytest.raises(KeyUnreadable, match="auditcore signing-key FILE"):
        PublicKey.from_pem(data)
