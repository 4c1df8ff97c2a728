"""No place of an ONNX graph can make a worker read another file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from auditcore.contracts.access import AccessRules
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import ModelNotLoadable, UnsafeReference
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.external_data import refuse_external_data
from auditcore.models.loading import load_classifier
from reading_graphs import external, reader

CONTENT = "KEY=hunter2"
MOST_REPEATS = 2
"""How often a place may pass through the same field: a subgraph inside a subgraph is one."""


def places(kind: Any, passed: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every chain of fields that leads from a message to a tensor, as the descriptors of onnx tell it."""
    for field in kind.fields:
        if field.message_type is None or passed.count(field.name) == MOST_REPEATS:
            continue
        here = (*passed, field.name)
        if field.message_type.full_name == TensorProto.DESCRIPTOR.full_name:
            yield here
        else:
            yield from places(field.message_type, here)


PLACES = list(places(onnx.ModelProto.DESCRIPTOR))


def model_with(place: tuple[str, ...], tensor: Any) -> Any:
    """A model with one tensor at a place."""
    model = onnx.ModelProto()
    message = model
    for name in place:
        value = getattr(message, name)
        message = value if hasattr(value, "ListFields") else value.add()
    message.CopyFrom(tensor)
    return model


def test_the_places_are_those_that_matter() -> None:
    assert len(PLACES) > 200
    known = {
        ("graph", "initializer"),
        ("graph", "sparse_initializer", "indices"),
        ("graph", "node", "attribute", "t"),
        ("graph", "node", "attribute", "tensors"),
        ("graph", "node", "attribute", "sparse_tensors", "values"),
        ("graph", "node", "attribute", "g", "initializer"),
        ("graph", "node", "attribute", "g", "node", "attribute", "graphs", "initializer"),
        ("training_info", "algorithm", "initializer"),
        ("functions", "node", "attribute", "t"),
        ("functions", "attribute_proto", "t"),
    }
    assert known <= set(PLACES)
    # the walk of the loader does not look into maps, of which ONNX has none
    kinds = onnx.ModelProto.DESCRIPTOR.file.message_types_by_name.values()
    assert not [kind.full_name for kind in kinds if any(inner.GetOptions().map_entry for inner in kind.nested_types)]


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_a_tensor_in_another_file_is_refused_anywhere_in_the_graph(place: tuple[str, ...]) -> None:
    refuse_external_data(model_with(place, TensorProto(name="inside", raw_data=b"1")), field="model.uri")
    with pytest.raises(UnsafeReference, match=r"'secret'.*save it as one file") as caught:
        refuse_external_data(model_with(place, external()), field="model.uri")
    assert caught.value.field == "model.uri"
    assert place[-1] in caught.value.message


def test_a_path_is_refused_even_where_the_tensor_says_that_it_has_none() -> None:
    tensor = external()
    tensor.data_location = TensorProto.DEFAULT
    with pytest.raises(UnsafeReference):
        refuse_external_data(model_with(("graph", "initializer"), tensor), field="model.uri")
    tensor = TensorProto(data_location=TensorProto.EXTERNAL)
    with pytest.raises(UnsafeReference):
        refuse_external_data(model_with(("graph", "initializer"), tensor), field="model.uri")


def test_operators_that_read_files_are_refused() -> None:
    """All of ONNX Runtime's whose attributes are described as files."""
    schemas = onnxruntime.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    described = {
        schema.name
        for schema in schemas
        if any(re.search(r"\bfile(name)?\b", one.description.lower()) for one in schema.attributes.values())
    }
    # `Snpe` is given the content of a file
    assert described - {"Snpe"} == {"EPContext"}
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=0, ep_cache_context="/etc/x")
    model = helper.make_model(helper.make_graph([node], "g", [], []))
    with pytest.raises(UnsafeReference, match="EPContext"):
        refuse_external_data(model, field="model.uri")


# --- through the loader ----------------------------------------------------------------------------


def loaded(content: bytes, folder: Path, name: str = "g.onnx") -> Classifier:
    path = folder / name
    path.write_bytes(content)
    model = OnnxModel(uri=path.as_uri(), preprocessing=Preprocessing(resize=32, crop=32), gradients="never")
    return load_classifier(model, access=AccessRules(file_roots=(folder,)))


def answer(classifier: Classifier) -> str:
    return chr(int(classifier.logits(torch.zeros(1, 3, 32, 32)).argmax()))


@pytest.mark.parametrize("how", ["constant", "if constant", "if initializer"])
def test_no_file_next_to_the_worker_is_read_as_a_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    beside, models = tmp_path / "beside", tmp_path / "models"
    beside.mkdir()
    models.mkdir()
    (beside / ".env").write_text(CONTENT)
    monkeypatch.chdir(beside)
    inside = numpy_helper.from_array(np.array([ord("!")], np.uint8), "inside")
    assert answer(loaded(reader(inside, how).SerializeToString(), models)) == "!"
    stolen = ""
    for offset in range(len(CONTENT)):
        try:
            stolen += answer(loaded(reader(external(offset=offset), how).SerializeToString(), models))
        except UnsafeReference as error:
            assert "save it as one file" in error.message  # noqa: PT017 - what comes out instead is what matters
    assert not stolen


def test_onnx_runtime_gets_what_was_checked_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that onnx does not know could be one that ONNX Runtime does."""
    given: list[tuple[bytes, Any]] = []
    open_session = onnxruntime.InferenceSession

    def session(content: bytes, *, sess_options: Any, providers: list[str]) -> Any:
        given.append((content, sess_options))
        return open_session(content, sess_options=sess_options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    inside = numpy_helper.from_array(np.array([ord("!")], np.uint8), "inside")
    # field 2000, of 6 bytes
    unknown = b"\x82\x7d\x06hidden"
    content = reader(inside, "constant").SerializeToString()
    assert b"hidden" in onnx.ModelProto.FromString(content + unknown).SerializeToString()
    assert answer(loaded(content + unknown, tmp_path)) == "!"
    ((checked, options),) = given
    assert b"hidden" not in checked
    assert options.get_session_config_entry("session.load_model_format") == "ONNX"


def test_a_graph_cannot_set_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_LOAD_CONFIG_FROM_MODEL", "1")
    monkeypatch.chdir(tmp_path)
    model = reader(numpy_helper.from_array(np.array([ord("!")], np.uint8), "inside"), "constant")
    model.metadata_props.add(key="ort_config", value='{"session_options": {"enable_profiling": 1}}')
    assert answer(loaded(model.SerializeToString(), tmp_path)) == "!"
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]


def test_an_ending_of_the_file_chooses_no_other_parser(tmp_path: Path) -> None:
    inside = numpy_helper.from_array(np.array([ord("!")], np.uint8), "inside")
    model = reader(inside, "constant")
    assert answer(loaded(model.SerializeToString(), tmp_path, "g.json")) == "!"
    with pytest.raises(ModelNotLoadable, match="not an ONNX graph"):
        loaded(str(model).encode(), tmp_path, "g.textproto")
