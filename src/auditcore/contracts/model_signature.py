"""Signatures of models by OpenSSF model-signing: what a request names, and what a report records."""

from __future__ import annotations

from typing import final

from pydantic import Field

from auditcore.contracts.contract import Contract, Sha256

SIGNED = (
    "Signature of the model by OpenSSF model-signing, such as `model.sig`, made with a key. The audit fails if it does "
    "not hold, or if the operator does not trust its key. None is verified if null."
)


@final
class SignatureReference(Contract):
    """Where the signature of a model is.

    Attributes:
        uri: Place of the signature: a Sigstore bundle, as `model_signing sign key` writes it.
        sha256: Its digest. Set when the audit is submitted, if not given.
    """

    uri: str = Field(min_length=1, max_length=2048)
    sha256: Sha256 | None = None


@final
class ModelSignature(Contract):
    """A signature that holds: what was loaded is what the owner of the key signed.

    Attributes:
        key: Id of the key that signed: sha256 of its public half in PEM. The operator trusts it.
        digest: sha256 of the signature itself.
        name: Name that the signer gave to the model: that of the signed file or folder.
        model_digest: Digest over all files that were signed, as model-signing computes it.
        signed_files: Number of files that were signed.
    """

    key: Sha256
    digest: Sha256
    name: str
    model_digest: Sha256
    signed_files: int = Field(ge=1)
