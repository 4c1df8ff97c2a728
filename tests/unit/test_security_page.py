"""Every row of docs/security.md has tests, and those that stand nowhere else are here."""

from __future__ import annotations

import inspect
import io
import json
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from auditcore.contracts.access import DEMO_FACTORY, AccessRules, Limits
from auditcore.contracts.explainers import CallableExplainer, Captum, Explainer, Precomputed, ServedExplainer, Zennit
from auditcore.contracts.explainers.captum import METHODS as CAPTUM
from auditcore.contracts.explainers.zennit import COMPOSITES
from auditcore.contracts.models import TimmModel, TorchvisionModel
from auditcore.contracts.packaged_models import TimmArchitecture, TorchvisionArchitecture
from auditcore.errors import AuditcoreError, UndecodableImage, UnreachableResource, UnsafeReference
from auditcore.images.decode import FORMATS, decode_image
from auditcore.models.loaders.pickled import read_inert
from auditcore.models.loaders.weights import read_tensors
from auditcore.sources.fetching import open_resource
from auditcore_service.store.blobs import BlobStore

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")

REACHED: list[str] = []
WATCHING: list[Path] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHING and (
        event.startswith(("subprocess.", "os.exec", "os.system", "os.posix_spawn", "socket."))
        or (event == "open" and str(WATCHING[0]) in str(arguments[0]))
    ):
        REACHED.append(f"{event} {arguments[0]}")


# cannot be taken back, so there is one for all tests
sys.addaudithook(_watch)


@pytest.fixture
def secret(tmp_path: Path) -> Iterator[Path]:
    """A file that must not be opened; the watch also fails if a program is started or a host is contacted."""
    path = tmp_path / "secret" / "key.txt"
    path.parent.mkdir()
    path.write_text("KEY=hunter2")
    REACHED.clear()
    WATCHING.append(path)
    yield path
    WATCHING.clear()
    assert REACHED == []


def named_tests() -> list[tuple[str, str]]:
    return re.findall(r"`(test_\w+\.py)::(test_\w+)`", PAGE)


def test_every_row_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    assert all(re.search(r"`test_\w+\.py::test_\w+` \|$|::test_\w+`(, `[^`]+`)* \|$", row) for row in rows)
    there = {
        (path.name, name)
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    missing = [f"{file}::{name}" for file, name in named_tests() if (file, name) not in there]
    assert missing == []


def test_the_page_names_what_this_file_tests() -> None:
    mine = {name for name, value in globals().items() if name.startswith("test_") and inspect.isfunction(value)}
    told = {name for file, name in named_tests() if file == Path(__file__).name}
    assert told == mine - {"test_every_row_names_tests_that_exist", "test_the_page_names_what_this_file_tests"}


@pytest.mark.parametrize("path", ["secret/key.txt", "./secret/key.txt", "../secret/key.txt", "key.txt"])
def test_a_relative_path_is_refused(secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Even where it leads into an allowed folder: gateway and worker would not agree on where it begins."""
    monkeypatch.chdir(tmp_path)
    access = AccessRules(
        file_roots=(tmp_path.parent,), token_roots=(tmp_path.parent,), server_prefixes=("http://host/",)
    )
    with pytest.raises(UnsafeReference, match="relative path") as caught:
        open_resource(f"file:{path}", access=access, field="model.uri", limit_bytes=100)
    assert caught.value.field == "model.uri"
    with pytest.raises(UnsafeReference, match="relative path") as caught:
        access.check_server("http://host/", path)
    assert caught.value.field == "model.token_file"
    access.check_server("http://host/", str(secret))


def test_a_server_and_its_token_are_the_operators_choice(secret: Path) -> None:
    access = AccessRules(server_prefixes=("http://host/",), token_roots=(Path("/run/tokens"),))
    access.check_server("http://host/", "/run/tokens/key.json")
    for url in ("http://host.evil/", "http://other/", "file:///etc/passwd", "http://host/../"):
        with pytest.raises(UnsafeReference, match="AUDIT_SERVER_PREFIXES"):
            access.check_server(url, None)
    for token in (str(secret), "/run/tokens/../../etc/passwd"):
        with pytest.raises(UnsafeReference, match="AUDIT_TOKEN_ROOTS"):
            access.check_server("http://host/", token)


@pytest.mark.parametrize(
    "uri",
    [
        "simplecache::file://{secret}",
        "filecache::s3://models/public/x",
        "zip://key.txt::file://{secret}",
        "s3://models/public/x::file://{secret}",
        "s3://models/public/x::zip://a::file://{secret}",
        "s3://models/public/../private/x",
        "s3://models/public/%2e%2e/private/x",
        "s3://models/private/x",
        "local://{secret}",
        "reference::file://{secret}",
        "github://org:name@/x",
        "ftp://host/x",
        "memory://x",
    ],
)
def test_an_object_is_one_url_of_a_store(secret: Path, uri: str) -> None:
    access = AccessRules(storage_prefixes=("s3://models/public/",))
    access.check_uri("s3://models/public/x", field="model.uri")
    with pytest.raises(UnsafeReference):
        open_resource(uri.format(secret=secret), access=access, field="model.uri", limit_bytes=100)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:timm/resnet18.a1_in1k",
        "hf_hub:timm/resnet18",
        "local-dir:/srv/x",
        "/srv/x",
        "../x",
        "timm/resnet18",
        "https://host/x",
        "resnet18\n",
    ],
)
def test_a_name_of_an_architecture_is_not_a_path(name: str) -> None:
    for kind in (TimmArchitecture, TorchvisionArchitecture):
        kind.model_validate({"name": "resnet18"})
        with pytest.raises(ValidationError):
            kind.model_validate({"name": name})
    reference: dict[str, Any] = {"weights": {"uri": "random:1"}, "preprocessing": {"resize": 32, "crop": 32}}
    for model in (TimmModel, TorchvisionModel):
        model.model_validate({"name": "resnet18", **reference})
        with pytest.raises(ValidationError):
            model.model_validate({"name": name, **reference})


def tensors_of(path: Path) -> Any:
    return read_tensors(path, field="model.uri")


def test_safetensors_read_only_themselves(secret: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    values = torch.arange(4.0)
    safetensors.torch.save_file({"weight": values}, path, metadata={"location": str(secret)})
    assert torch.equal(tensors_of(path)["weight"], values)
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["weight"]["location"] = str(secret)
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[end:])
    assert torch.equal(tensors_of(path)["weight"], values)
    # a place beyond the end of the file is no place
    header["weight"]["data_offsets"] = [0, 160]
    header["weight"]["shape"] = [40]
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[end:])
    with pytest.raises(AuditcoreError, match="damaged"):
        read_tensors(path, field="model.uri")


class Opening:
    """Unpickled, it calls something with a path."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


@pytest.mark.parametrize("number", range(5))
def test_a_pickle_opens_no_file(secret: Path, tmp_path: Path, number: int) -> None:
    """By what torch and numpy have for tensors in files, too."""
    import numpy as np  # noqa: PLC0415 - what a pickle names
    from torch.multiprocessing.reductions import rebuild_storage_filename  # noqa: PLC0415 - only this test needs it

    name = str(secret)
    one = [
        Opening(open, name),
        Opening(torch.load, name),
        Opening(np.memmap, name),
        Opening(torch.from_file, name, False, 4),  # noqa: FBT003 - its own signature
        Opening(rebuild_storage_filename, torch.UntypedStorage, b"/x", name.encode(), 4),
    ][number]
    path = tmp_path / "model.pth"
    torch.save({"state_dict": {"weight": torch.ones(2)}, "extra": one}, path)
    with pytest.raises(UnsafeReference):
        read_tensors(path, field="model.uri")
    content: Any = read_inert(path, field="model.uri")
    assert content["state_dict"]["weight"].tolist() == [1, 1]


def test_the_factory_that_is_allowed_by_default_takes_no_path() -> None:
    assert DEMO_FACTORY == "efficientnet_lite_pytorch:EfficientNet.from_name"
    assert list(inspect.signature(EfficientNet.from_name).parameters) == [
        "model_name",
        "in_channels",
        "override_params",
    ]
    assert AccessRules().factories == (DEMO_FACTORY,)


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def test_no_picture_opens_a_file_or_starts_a_program(secret: Path) -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>'.encode()
    eps = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n({secret}) run\n".encode()
    for content in (svg, eps, picture("EPS"), picture("PDF"), picture("ICNS"), str(secret).encode()):
        with pytest.raises(UndecodableImage):
            decode_image(content, limits=Limits(), field="images.0")
    assert set(FORMATS).isdisjoint({"EPS", "WMF", "PSD", "ICNS", "FPX", "MIC", "PDF", "SVG", "FLI"})


@pytest.mark.parametrize(
    "digest", ["../secret/key.txt", "sha256:../../secret/key.txt", "/etc/passwd", "sha256:" + "A" * 64]
)
def test_a_blob_is_named_by_a_digest_only(secret: Path, tmp_path: Path, digest: str) -> None:
    store = BlobStore(f"file://{tmp_path}")
    assert store.get(store.put(b"content")) == b"content"
    with pytest.raises(UnreachableResource, match="is not a digest"):
        store.get(digest)
    assert secret.exists()


def test_no_explainer_is_given_a_path() -> None:
    """Parameters are numbers and names of a list; maps are looked up by digest, functions and servers in lists."""
    # what each of these may say is in a test of its own, named on the page
    asked_for = {CallableExplainer: {"target", "arguments"}, ServedExplainer: set(ServedExplainer.model_fields)}
    of_a_list = {Captum: {"arguments"}, Zennit: {"arguments"}}
    for kind in get_args(get_args(Explainer)[0]):
        for name, field in kind.model_fields.items():
            free = any(part is str for part in _parts(field.annotation))
            # a layer is looked up among the modules of the model, a name is for the report
            elsewhere = asked_for.get(kind, set()) | of_a_list.get(kind, set())
            assert not free or kind is Precomputed or name in {"name", "layer"} | elsewhere, (kind, name)
    for library, methods in (("captum", CAPTUM), ("zennit", COMPOSITES)):
        for method, known in methods.items():
            for form in known.arguments.values():
                assert form.problem("/etc/passwd"), (library, method)
                assert form.problem("https://elsewhere/"), (library, method)
                assert form.problem("os:system"), (library, method)
    with pytest.raises(ValidationError):
        TypeAdapter(Explainer).validate_python({"kind": "precomputed", "maps": "/etc/passwd"})


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    if typing.get_origin(annotation) is not typing.Literal:
        for inner in get_args(annotation):
            yield from _parts(inner)
