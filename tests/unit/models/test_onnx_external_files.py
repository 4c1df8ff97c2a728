"""Weights of an ONNX graph may be in files beside it, and nowhere else; their digests are pinned with the graph's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import digits
import foreign_servers
import prediction_only
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.file_parts import FilePart
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.errors import (
    AuditcoreError,
    DigestMismatch,
    InvalidRequest,
    LimitExceeded,
    ModelNotLoadable,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.sources.named_files import external_files
from auditcore.sources.resolving import resolve_model
from auditcore.sources.sibling_files import sibling_uri

PIXELS = digits.digit_pixels()[0][:4]
BESIDE = "digits.onnx.data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of models in which the graph keeps its weights in a file beside it."""
    models = tmp_path / "models"
    models.mkdir()
    whole = onnx.load(str(foreign_servers.write_onnx(tmp_path / "whole.onnx")))
    onnx.save(whole, str(models / "digits.onnx"), save_as_external_data=True, location=BESIDE, size_threshold=0)
    return models


def reference(folder: Path, **changes: Any) -> OnnxModel:
    uri = (folder / "digits.onnx").as_uri()
    return OnnxModel.model_validate({"uri": uri, "preprocessing": digits.PREPROCESSING, **changes})


def resolved(folder: Path, **changes: Any) -> OnnxModel:
    found = resolve_model(reference(folder, **changes), AccessRules(file_roots=(folder,))).reference
    assert isinstance(found, OnnxModel)
    return found


def loaded(model: OnnxModel, folder: Path) -> Classifier:
    return load_classifier(model, access=AccessRules(file_roots=(folder,)))


def changed(folder: Path, change: Callable[[Any], None]) -> None:
    """Change every tensor whose data is in the other file."""
    path = folder / "digits.onnx"
    graph = onnx.ModelProto.FromString(path.read_bytes())
    for tensor in graph.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            change(tensor)
    path.write_bytes(graph.SerializeToString())


def place(**given: str) -> Callable[[Any], None]:
    """Set entries of the place of a tensor."""

    def change(tensor: Any) -> None:
        for key, value in given.items():
            entry = next((one for one in tensor.external_data if one.key == key), None) or tensor.external_data.add()
            entry.key, entry.value = key, value

    return change


def test_a_graph_with_weights_beside_it_is_audited(folder: Path, digit_classifier: Classifier) -> None:
    for gradients in ("auto", "never"):
        classifier = loaded(reference(folder, gradients=gradients), folder)
        assert (classifier.logits(PIXELS) - digit_classifier.logits(PIXELS)).abs().max() < 1e-4
        assert (classifier.source is None) == (gradients == "auto")
    report = prediction_only.audited(
        reference(folder),
        AccessRules(file_roots=(folder,)),
        explainers=[{"kind": "gradient"}],
        checks=[{"kind": "complexity"}],
    )
    assert report.model is not None
    assert report.model.reference == resolved(folder)


def test_the_digests_of_all_files_are_pinned(folder: Path) -> None:
    pinned = resolved(folder)
    assert pinned.sha256 == sha256((folder / "digits.onnx").read_bytes())
    assert pinned.parts == (FilePart(name=BESIDE, sha256=sha256((folder / BESIDE).read_bytes())),)
    assert resolved(folder, parts=pinned.parts) == pinned
    before = loaded(reference(folder, gradients="never"), folder).digest
    data = bytearray((folder / BESIDE).read_bytes())
    data[0] ^= 1
    (folder / BESIDE).write_bytes(data)
    with pytest.raises(DigestMismatch) as caught:
        loaded(pinned, folder)
    assert caught.value.field == "model.parts"
    # without a pin, the digest of the model tells one from the other
    assert loaded(reference(folder, gradients="never"), folder).digest != before


def test_digests_of_other_files_are_refused(folder: Path) -> None:
    other = FilePart(name="other.data", sha256="sha256:" + "0" * 64)
    with pytest.raises(InvalidRequest, match=r"no digest of 'digits\.onnx\.data'") as caught:
        resolved(folder, parts=(other,))
    assert caught.value.field == "model.parts"
    with pytest.raises(InvalidRequest, match=r"no digest of 'digits\.onnx\.data'"):
        loaded(reference(folder, parts=(other,)), folder)
    with pytest.raises(InvalidRequest, match=r"does not name 'other\.data'"):
        resolved(folder, parts=(other, FilePart(name=BESIDE, sha256=sha256((folder / BESIDE).read_bytes()))))


@pytest.mark.parametrize(
    "location",
    [
        "../secret.bin",
        "/etc/passwd",
        ".env",
        "..",
        ".",
        "a/b",
        "a\\b",
        "file:///etc/passwd",
        "x::y",
        "a\0b",
        "%2e%2e",
        "~",
    ],
)
def test_a_place_that_is_no_plain_name_is_refused(location: str, folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(bytes(10**5))
    (folder / ".env").write_bytes(bytes(10**5))
    changed(folder, place(location=location))
    for refused in (loaded, lambda model, folder: resolve_model(model, AccessRules(file_roots=(folder,)))):
        with pytest.raises(UnsafeReference, match="not the plain name"):
            refused(reference(folder), folder)


def test_a_link_does_not_lead_out_of_the_allowed_folders(folder: Path) -> None:
    secret = folder.parent / "secret.bin"
    (folder / BESIDE).rename(secret)
    (folder / BESIDE).symlink_to(secret)
    for refused in (loaded, lambda model, folder: resolve_model(model, AccessRules(file_roots=(folder,)))):
        with pytest.raises(UnsafeReference, match="AUDIT_FILE_ROOTS"):
            refused(reference(folder), folder)
    # where the operator allows both folders, it is a file like others
    loaded(reference(folder), folder.parent)


def test_nothing_of_the_working_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = folder.parent / "beside"
    beside.mkdir()
    (folder / BESIDE).rename(beside / BESIDE)
    monkeypatch.chdir(beside)
    with pytest.raises(UnreachableResource, match=r"no file can be read at .*/models/digits\.onnx\.data"):
        loaded(reference(folder), folder)
    with pytest.raises(UnreachableResource, match="copy it there, or save one file"):
        resolved(folder)


def test_an_uploaded_graph_has_nothing_beside_it(folder: Path) -> None:
    data = (folder / "digits.onnx").read_bytes()
    model = reference(folder).model_copy(update={"uri": f"blob:{sha256(data)}"})
    with pytest.raises(UnreachableResource, match="save all of it in one file"):
        load_classifier(model, access=AccessRules(), blobs={sha256(data): data}.__getitem__)


@pytest.mark.parametrize(
    "given", [{"offset": "-4"}, {"offset": "999999"}, {"length": "3"}, {"offset": "x"}, {"length": "-4"}]
)
def test_a_tensor_has_the_bytes_of_its_shape(given: dict[str, str], folder: Path) -> None:
    changed(folder, place(**given))
    with pytest.raises(ModelNotLoadable, match=r"export both again|cannot be read"):
        loaded(reference(folder), folder)


@pytest.mark.parametrize("key", ["basepath", "unknown"])
def test_a_place_with_more_than_a_name_is_refused(key: str, folder: Path) -> None:
    changed(folder, place(**{key: "/etc"}))
    with pytest.raises(UnsafeReference, match="save it as one file"):
        loaded(reference(folder), folder)


def test_all_files_together_have_the_size_of_one(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    rules: dict[str, Any] = {"file_roots": (folder,)}
    load_classifier(reference(folder), access=AccessRules(**rules, limits={"weights_bytes": size}))
    with pytest.raises(LimitExceeded):
        load_classifier(reference(folder), access=AccessRules(**rules, limits={"weights_bytes": size - 1}))


def test_the_names_are_those_that_onnx_itself_reads(folder: Path, tmp_path: Path) -> None:
    assert external_files(folder / "digits.onnx") == (BESIDE,)
    assert external_files(tmp_path / "whole.onnx") == ()
    several = onnx.load(str(tmp_path / "whole.onnx"))
    onnx.save(
        several, str(tmp_path / "s.onnx"), save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0
    )
    named = {
        e.value
        for t in onnx.load(str(tmp_path / "s.onnx"), load_external_data=False).graph.initializer
        for e in t.external_data
        if e.key == "location"
    }
    assert len(named) > 2
    assert set(external_files(tmp_path / "s.onnx")) == named


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x3a\xff\xff\xff\xff\x7f", b"\x3a\x05\x2a\x99", b"no graph"])
def test_a_damaged_graph_names_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    assert external_files(path) == ()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("file:///models/a%20b/m.onnx", "file:///models/a%20b/w%201.data"),
        ("https://host/models/m.onnx", "https://host/models/w%201.data"),
        ("s3://bucket/prefix/m.onnx", "s3://bucket/prefix/w 1.data"),
        ("package:name/inside/m.onnx", "package:name/inside/w 1.data"),
    ],
)
def test_the_other_file_is_in_the_same_folder(uri: str, expected: str) -> None:
    assert sibling_uri(uri, "w 1.data", field="x") == expected


@pytest.mark.parametrize("uri", ["https://host/m.onnx?signature=1", "blob:sha256:00", "https://host/m.onnx#part"])
def test_some_places_have_no_folder(uri: str) -> None:
    with pytest.raises(AuditcoreError, match="nothing beside"):
        sibling_uri(uri, "w.data", field="x")


def test_data_in_the_graph_and_beside_it_is_refused(folder: Path) -> None:
    def both(tensor: Any) -> None:
        tensor.raw_data = numpy_helper.to_array(
            numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32))
        ).tobytes()

    changed(folder, both)
    with pytest.raises(UnsafeReference, match="save it as one file"):
        loaded(reference(folder), folder)
