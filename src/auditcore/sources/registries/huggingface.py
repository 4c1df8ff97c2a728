"""Snapshots in Hugging Face layout: a folder, or a repository of the hub at one commit."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote, urlsplit

from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import WHITE_BOX
from auditcore.contracts.packaged_models import HuggingFaceModel
from auditcore.errors import DigestMismatch, LimitExceeded, ModelNotLoadable, UnreachableResource, UnsafeReference
from auditcore.sources.model_source import ModelSource
from auditcore.sources.proxies import proxy_in_use
from auditcore.sources.registries.folders import folder_digest
from auditcore.sources.resolved_model import Resolution

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
PROCESSOR = "processor_config.json"
"""Where models of images and text keep the config of their image processor, as an entry `image_processor`."""

USUAL, INDEX = "model.safetensors", "model.safetensors.index.json"
WANTED = (CONFIG, PREPROCESSOR, PROCESSOR, "*.safetensors", INDEX)
MOST_JSON_BYTES = 16 * 2**20

WEIGHTS_ELSEWHERE = frozenset(
    {
        "cache_dir",
        "checkpoint_path",
        "pretrained",
        "pretrained_cfg_overlay",
        "pretrained_model_name_or_path",
        "transformers_weights",
        "use_pretrained_backbone",
    }
)
"""Keys, at any depth of a config, that make timm or transformers open a file or a repository."""

BUILT_BY_NAME = frozenset({"architecture", "backbone"})
"""Keys with a name, for which timm also accepts `hf-hub:org/name` and `local-dir:/path`."""


@final
class Snapshot:
    """The files of a snapshot that an audit reads.

    Attributes:
        folder: The folder of the files.
        names: Their names.
        config: Content of `config.json`.
        digest: Over names and digests of the files.
    """

    def __init__(self, model: HuggingFaceModel, access: AccessRules) -> None:
        """Find the files. Files of the hub are downloaded once, into its own cache.

        Raises:
            InputError: There are no files, or they are not valid.
        """
        self._field = "model.uri" if model.uri is not None else "model.repo"
        self.folder = _folder(model) if model.uri is not None else _fetched(model, access)
        if model.uri is not None:
            self._refuse_links_out(access)
        listed = self._weights()
        nested = self.read(PROCESSOR).get("image_processor")
        # without that entry the file says nothing of images, and is not read
        processors = (PREPROCESSOR,) if nested is None else (PREPROCESSOR, PROCESSOR)
        self.names = [name for name in (CONFIG, *processors, INDEX, *listed) if (self.folder / name).is_file()]
        self.config = self.read(CONFIG)
        self._refuse_references(self.config)
        limit = access.limits.weights_bytes
        self.digest = folder_digest(self.folder, self.names, limit_bytes=limit, field=self._field)
        if model.sha256 is not None and model.sha256 != self.digest:
            raise DigestMismatch(expected=model.sha256, actual=self.digest, field="model.sha256")

    @contextmanager
    def isolated(self) -> Iterator[Path]:
        """A private folder with links to only the files that are read, for libraries that would read others too."""
        with tempfile.TemporaryDirectory(prefix="auditcore-snapshot-") as name:
            folder = Path(name)
            for one in self.names:
                (folder / one).symlink_to((self.folder / one).resolve())
            yield folder

    @property
    def weights(self) -> tuple[Path, ...]:
        """The files of weights."""
        return tuple(self.folder / name for name in self.names if name.endswith(".safetensors"))

    @property
    def image_processor(self) -> dict[str, Any]:
        """Config of the image processor; empty if there is none."""
        nested = self.read(PROCESSOR).get("image_processor") if PROCESSOR in self.names else None
        return nested if isinstance(nested, dict) else self.read(PREPROCESSOR)

    def _refuse_links_out(self, access: AccessRules) -> None:
        """Refuse links that point outside the allowed folders."""
        named = (self.folder / name for name in (CONFIG, PREPROCESSOR, PROCESSOR))
        for path in (*named, *self.folder.glob("*.safetensors*")):
            if path.is_symlink():
                access.check_uri(path.as_uri(), field=self._field)

    def _refuse_references(self, config: dict[str, Any]) -> None:
        """Refuse a config that names code, files or other repositories; it must only describe an architecture."""
        waiting: list[object] = [config]
        while waiting:
            part = waiting.pop()
            if isinstance(part, list):
                waiting.extend(part)
            if not isinstance(part, dict):
                continue
            waiting.extend(part.values())
            if "auto_map" in part:
                msg = (
                    "config.json asks for code of the repository (auto_map), which is not run; use a built-in "
                    "architecture"
                )
                raise UnsafeReference(msg, field=self._field)
            for key in sorted(WEIGHTS_ELSEWHERE.intersection(part)):
                if part[key]:
                    msg = f"config.json asks for weights from elsewhere ({key}), which are not read; remove `{key}`"
                    raise UnsafeReference(msg, field=self._field)
            for key in sorted(BUILT_BY_NAME.intersection(part)):
                if not set(":/\\").isdisjoint(str(part[key])):
                    msg = (
                        f"config.json gives a location as its {key}, {str(part[key])[:100]!r}, which is not read; "
                        "name a built-in architecture"
                    )
                    raise UnsafeReference(msg, field=self._field)

    def _weights(self) -> list[str]:
        """Names of the weight files: those of the index, or else `model.safetensors`, or else the only file."""
        there = sorted(path.name for path in self.folder.glob("*.safetensors"))
        if not there:
            msg = "the snapshot holds no safetensors, and other weights are pickles, which can run code; convert them"
            raise ModelNotLoadable(msg, field=self._field)
        if (self.folder / INDEX).is_file():
            wanted = self.read(INDEX).get("weight_map")
            named = sorted({str(name) for name in wanted.values()}) if isinstance(wanted, dict) else []
            missing = [name for name in named if name not in there]
            if missing or not named:
                msg = f"{INDEX} names {missing[0] if missing else 'no files'}, which is not there; download it again"
                raise ModelNotLoadable(msg, field=self._field)
            return named
        if USUAL in there:
            return [USUAL]
        if len(there) > 1:
            msg = f"{len(there)} safetensors files and none is {USUAL} ({', '.join(there[:3])}); leave one of them"
            raise ModelNotLoadable(msg, field=self._field)
        return there

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the snapshot; empty if there is none.

        Raises:
            ModelNotLoadable: The file is damaged, or `config.json` is missing.
        """
        path = self.folder / name
        if not path.is_file():
            if name == CONFIG:
                msg = f"the snapshot has no {CONFIG}, which names the architecture; give the folder of a full snapshot"
                raise ModelNotLoadable(msg, field=self._field)
            return {}
        try:
            found = json.loads(path.read_bytes()[:MOST_JSON_BYTES])
        except ValueError as error:
            msg = f"{name} of the snapshot is not JSON ({error}); download it again"
            raise ModelNotLoadable(msg, field=self._field) from error
        if not isinstance(found, dict):
            msg = f"{name} of the snapshot is not a JSON object; download it again"
            raise ModelNotLoadable(msg, field=self._field)
        return found


def check_access(model: HuggingFaceModel, access: AccessRules) -> None:
    """Refuse a folder or repository that is not allowed.

    Raises:
        UnsafeReference: `AUDIT_FILE_ROOTS` or `AUDIT_HUGGINGFACE_REPOS` does not allow it, or `uri` is no folder.
    """
    if model.uri is not None:
        access.check_uri(model.uri, field="model.uri")
        if not model.uri.startswith("file:"):
            msg = "a snapshot is a folder, so `uri` is file:///path; name a repository as `repo`"
            raise UnsafeReference(msg, field="model.uri")
    elif not any(
        model.repo == allowed or (allowed.endswith("/") and str(model.repo).startswith(allowed))
        for allowed in access.huggingface_repos
    ):
        msg = f"repository {model.repo!r} is not allowed; the operator can add it (AUDIT_HUGGINGFACE_REPOS)"
        raise UnsafeReference(msg, field="model.repo")


def resolve(model: HuggingFaceModel, access: AccessRules) -> Resolution:
    """The reference with the digest of its files.

    A folder that this machine does not have stays unpinned, and the workers check it.

    Raises:
        InputError: The files cannot be read, or their digest differs from the one in the request.
    """
    if model.uri is not None and not _path(model.uri).is_dir():
        return Resolution(model, WHITE_BOX)
    snapshot = Snapshot(model, access)
    architecture = snapshot.config.get("architecture") or ", ".join(snapshot.config.get("architectures") or ())
    pinned = model.model_copy(update={"sha256": snapshot.digest})
    return Resolution(pinned, WHITE_BOX, {"architecture": str(architecture)})


def _path(uri: str) -> Path:
    return Path(os.path.realpath(unquote(urlsplit(uri).path)))


def _folder(model: HuggingFaceModel) -> Path:
    folder = _path(str(model.uri))
    if not folder.is_dir():
        msg = f"there is no folder {model.uri}; name the folder of a snapshot, with config.json in it"
        raise UnreachableResource(msg, field="model.uri")
    return folder


def _fetched(model: HuggingFaceModel, access: AccessRules) -> Path:
    proxy = proxy_in_use()
    if proxy is not None:
        return proxy.open_registry(model)
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - an extra
    except ImportError as error:
        msg = f"the hub's client is not installed here ({error}); install auditcore[huggingface]"
        raise ModelNotLoadable(msg, field="model.repo") from error
    # subfolders of a repository hold the same weights for other programs
    options: dict[str, Any] = {
        "revision": model.revision,
        "allow_patterns": list(WANTED),
        "ignore_patterns": ["*/*"],
        "max_workers": 2,
    }
    try:
        planned = snapshot_download(str(model.repo), dry_run=True, **options)  # nosec B615 - options name the commit
    # without a connection the files may still be in the client's cache; if not, the next call raises
    except Exception:  # noqa: BLE001 - as below
        planned = []
    size, limit = sum(int(file.file_size or 0) for file in planned), access.limits.weights_bytes
    if size > limit:
        raise LimitExceeded(what="the repository", limit=limit, actual=size, unit="bytes", field="model.repo")
    try:
        return Path(snapshot_download(str(model.repo), **options))  # nosec B615 - options name the commit
    # the client has a dozen errors for missing, forbidden and unreachable repositories, and no common base class
    except Exception as error:
        text = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"{model.repo} cannot be downloaded at {model.revision} ({text}); check both, or name a folder as `uri`"
        raise UnreachableResource(msg, field="model.repo") from error


HUGGINGFACE = ModelSource(
    contract=HuggingFaceModel,
    check_access=check_access,
    resolve=resolve,
    loader="auditcore.models.loaders.huggingface",
    display_name=lambda model: model.repo or str(model.uri).rstrip("/").rsplit("/", 1)[-1],
)
