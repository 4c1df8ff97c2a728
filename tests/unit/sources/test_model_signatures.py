"""Signatures of models: made by model-signing, verified here, and verified by model-signing with the same result."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_signing import verifying

import digits
from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.model_signature import SignatureReference
from auditcore.contracts.packaged_models import MarModel
from auditcore.errors import (
    DigestMismatch,
    ModelSignatureInvalid,
    ModelSignatureUntrusted,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.models.loading import load_classifier
from auditcore.sources.model_signatures import verify_signature
from auditcore.sources.resolving import resolve_model
from signed_models import key_id, sign, write_key

FIELD = "model.weights.signature"


class Signed:
    """A folder with the weights of a model, a trusted key and one that is not trusted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "model"
        self.folder.mkdir()
        self.weights = digits.write_weights(self.folder)
        (self.folder / "README.md").write_text("A model of digits.")
        self.private, self.public = write_key(folder, "trusted")
        self.other, _ = write_key(folder, "other")
        self.signature = sign(self.folder, self.private, self.folder / "model.sig")
        self.access = digits.access(folder).model_copy(update={"model_keys": (self.public,)})

    def reference(self, signature: Path | None = None, **changes: Any) -> ModelReference:
        named = SignatureReference(uri=(signature or self.signature).as_uri())
        plain = digits.reference(self.weights)
        return plain.model_copy(update={"weights": plain.weights.model_copy(update={"signature": named, **changes})})

    def refused(self, signature: Path | None = None, access: AccessRules | None = None) -> ModelSignatureInvalid:
        """The error, at submit and when it is loaded, even if only the workers see the files at submit."""
        with pytest.raises(ModelSignatureInvalid) as caught:
            resolve_model(self.reference(signature), access or self.access)
        with pytest.raises(ModelSignatureInvalid) as loading:
            load_classifier(self.reference(signature), access=access or self.access)
        assert (loading.value.field, loading.value.message) == (caught.value.field, caught.value.message)
        assert caught.value.field == FIELD
        return caught.value


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def test_a_signed_folder_or_file_is_verified_and_pinned(signed: Signed, tmp_path: Path) -> None:
    of_file = sign(signed.weights, signed.private, tmp_path / "file.sig")
    for signature, model, files in ((signed.signature, signed.folder, 2), (of_file, signed.weights, 1)):
        # model-signing itself accepts it
        verifying.Config().use_elliptic_key_verifier(public_key=signed.public).verify(model, signature)
        resolved = resolve_model(signed.reference(signature), signed.access).reference
        classifier = load_classifier(resolved, access=signed.access)
        found = classifier.signature
        assert found is not None
        statement = json.loads(base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"]))
        assert found.key == key_id(signed.public)
        assert found.digest == resolved.weights.signature.sha256  # type: ignore[union-attr]
        assert (found.name, found.signed_files) == (model.name, files)
        assert found.model_digest == f"sha256:{statement['subject'][0]['digest']['sha256']}"


def test_a_model_without_a_signature_has_none(signed: Signed) -> None:
    assert load_classifier(digits.reference(signed.weights), access=signed.access).signature is None
    assert "signature" not in digits.reference(signed.weights).model_dump()["weights"]


def test_a_file_that_was_not_signed_is_refused(signed: Signed) -> None:
    signed.weights.write_bytes(digits.write_weights(signed.folder.parent, seed=1).read_bytes())
    with pytest.raises(ValueError, match="Signature mismatch"):
        verifying.Config().use_elliptic_key_verifier(public_key=signed.public).verify(signed.folder, signed.signature)
    assert "the signature is for other files" in signed.refused().message


def test_a_file_that_changes_after_it_was_verified_is_not_loaded(signed: Signed) -> None:
    resolved = resolve_model(signed.reference(), signed.access).reference
    signed.weights.write_bytes(digits.write_weights(signed.folder.parent, seed=1).read_bytes())
    assert verify_signature(resolved, signed.access) is not None
    with pytest.raises(DigestMismatch):
        load_classifier(resolved, access=signed.access)


def test_a_key_that_is_not_trusted_is_refused(signed: Signed, tmp_path: Path) -> None:
    foreign = sign(signed.folder, signed.other, tmp_path / "other.sig")
    untrusting = signed.access.model_copy(update={"model_keys": ()})
    for signature, access in ((foreign, signed.access), (signed.signature, untrusting)):
        with pytest.raises(ModelSignatureUntrusted, match="AUDIT_MODEL_KEYS") as caught:
            resolve_model(signed.reference(signature), access)
        assert caught.value.field == FIELD


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(["payload", "sig"]), position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_other_bit_of_the_payload_or_of_the_signature_is_refused(
    signed: Signed, place: str, position: int, bit: int
) -> None:
    bundle = json.loads(signed.signature.read_text())
    envelope = bundle["dsseEnvelope"]
    holder = envelope if place == "payload" else envelope["signatures"][0]
    content = bytearray(base64.b64decode(holder[place]))
    content[position % len(content)] ^= 1 << bit
    holder[place] = base64.b64encode(bytes(content)).decode()
    altered = signed.folder.parent / "altered.sig"
    altered.write_text(json.dumps(bundle))
    with pytest.raises(ModelSignatureInvalid):
        resolve_model(signed.reference(altered), signed.access)


def test_a_signature_of_another_kind_is_refused_with_what_to_do(signed: Signed, tmp_path: Path) -> None:
    blake = sign(signed.folder, signed.private, tmp_path / "blake.sig", algorithm="blake2")
    assert "sign the model with the defaults of model-signing" in signed.refused(blake).message
    bundle = json.loads(signed.signature.read_text())
    bundle["verificationMaterial"] = {"x509CertificateChain": {"certificates": []}, "tlogEntries": []}
    certified = tmp_path / "certified.sig"
    certified.write_text(json.dumps(bundle))
    noise = tmp_path / "noise.sig"
    noise.write_bytes(b"\x00no signature")
    for signature in (certified, noise):
        assert "sign the model with `model_signing sign key`" in signed.refused(signature).message


def test_a_signature_must_be_where_the_operator_allows_and_have_its_digest(signed: Signed) -> None:
    narrow = signed.access.model_copy(update={"file_roots": (signed.weights.parent,)})
    outside = signed.folder.parent / "outside.sig"
    outside.write_bytes(signed.signature.read_bytes())
    with pytest.raises(UnsafeReference) as unsafe:
        resolve_model(signed.reference(outside), narrow)
    assert unsafe.value.field == f"{FIELD}.uri"
    pinned = resolve_model(signed.reference(), signed.access).reference
    signed.signature.write_bytes(sign(signed.folder, signed.private, outside).read_bytes())
    with pytest.raises(DigestMismatch) as changed:
        load_classifier(pinned, access=signed.access)
    assert changed.value.field == f"{FIELD}.sha256"


def test_files_that_only_workers_see_are_verified_by_the_workers(signed: Signed) -> None:
    signature, weights = signed.signature.read_bytes(), signed.weights.read_bytes()
    signed.signature.unlink()
    signed.weights.unlink()
    # the gateway has neither file
    open_reference = resolve_model(signed.reference(), signed.access).reference
    assert open_reference == signed.reference()
    signed.signature.write_bytes(signature)
    signed.weights.write_bytes(weights)
    assert load_classifier(open_reference, access=signed.access).signature is not None


def test_random_weights_have_nothing_that_could_be_signed(signed: Signed) -> None:
    with pytest.raises(ModelSignatureInvalid, match="has no file with a digest"):
        load_classifier(signed.reference(uri="random:1"), access=signed.access)


def test_models_in_one_file_are_verified_too(signed: Signed, tmp_path: Path) -> None:
    archive = tmp_path / "model.mar"
    archive.write_bytes(b"an archive")
    signature = SignatureReference(uri=sign(archive, signed.private, tmp_path / "model.mar.sig").as_uri())
    reference = MarModel(uri=archive.as_uri(), signature=signature)
    resolved = resolve_model(reference, signed.access).reference
    found = verify_signature(resolved, signed.access)
    assert found is not None
    assert found.name == "model.mar"
    archive.write_bytes(b"another archive")
    with pytest.raises(ModelSignatureInvalid) as caught:
        resolve_model(reference, signed.access)
    assert caught.value.field == "model.signature"


def test_without_the_extra_a_signed_model_is_refused(signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing._signing.sign_ec_key", None)
    with pytest.raises(UnreachableResource, match=r"install auditcore\[signing\]"):
        load_classifier(signed.reference(), access=signed.access)


@pytest.mark.parametrize("content", [None, b"no key"])
def test_a_trusted_key_that_cannot_be_read_is_the_operators_to_fix(signed: Signed, content: bytes | None) -> None:
    signed.public.unlink()
    if content is not None:
        signed.public.write_bytes(content)
    with pytest.raises(UnreachableResource, match="the operator must fix AUDIT_MODEL_KEYS"):
        resolve_model(signed.reference(), signed.access)


def test_a_signed_model_is_the_same_model(signed: Signed) -> None:
    one = load_classifier(signed.reference(), access=signed.access)
    other = load_classifier(digits.reference(signed.weights), access=signed.access)
    assert one.digest == other.digest
    assert torch.equal(one.mean, other.mean)
