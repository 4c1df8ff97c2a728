"""Models that are signed by model-signing itself, with new keys."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from model_signing import hashing, signing


def write_key(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a new private key and of its public half."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def key_id(public: Path) -> str:
    """How a report names a key."""
    return f"sha256:{hashlib.sha256(public.read_bytes()).hexdigest()}"


def sign(model: Path, private: Path, signature: Path, algorithm: str = "sha256") -> Path:
    """Sign a file, or a folder with all its files but the signature."""
    serialization = hashing.Config().use_file_serialization(hashing_algorithm=algorithm)
    serialization.set_ignored_paths(paths=[signature])
    signer = signing.Config().set_hashing_config(serialization).use_elliptic_key_signer(private_key=private)
    signer.sign(model, signature)
    return signature
