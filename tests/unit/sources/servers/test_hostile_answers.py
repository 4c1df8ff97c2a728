"""Servers that answer nonsense: an error that says so each time, and never another one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import digits
from auditcore.contracts.server_models import OpenInferenceModel, RequestLimits, TorchServeModel
from auditcore.errors import InputError
from auditcore.sources.servers.client import Client
from auditcore.sources.servers.open_inference.client import OpenInferenceClient
from auditcore.sources.servers.open_inference.encoding import HEADER_LENGTH
from auditcore.sources.servers.tensors import RawTensor
from auditcore.sources.servers.torchserve.client import TorchServeClient
from auditcore.tensor_files import write_tensors
from scripted_server import Asked, Reply, Scripted, scripted

SIDE = 8
IMAGES = RawTensor((2, 3, SIDE, SIDE), bytes(2 * 3 * SIDE * SIDE * 4))
PREPROCESSING = {"resize": SIDE, "crop": SIDE}
ONCE = RequestLimits(attempts=1)
DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
METADATA: dict[str, Any] = {
    "name": "digits",
    "versions": ["1"],
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}
OUTPUT: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
ANSWER: dict[str, Any] = {"model_name": "digits", "model_version": "1", "outputs": [OUTPUT]}
DESCRIPTION: dict[str, Any] = {
    "auditcore": "0.1.0",
    "name": "digits",
    "version": "1.0",
    "weights": "sha256:" + "0" * 64,
    "classes": 2,
    "scores": "softmax",
    "preprocessing": digits.PREPROCESSING.model_dump(mode="json"),
    "explainers": [],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


def open_inference(server: Scripted, **changes: Any) -> OpenInferenceClient:
    fields = {"url": server.url, "name": "digits", "outputs": "logits", "preprocessing": PREPROCESSING, "limits": ONCE}
    return OpenInferenceClient(OpenInferenceModel.model_validate({**fields, **changes}))


def torchserve(server: Scripted, **changes: Any) -> TorchServeClient:
    return TorchServeClient(
        TorchServeModel.model_validate({"url": server.url, "name": "digits", "limits": ONCE, **changes})
    )


def answering(content: bytes, headers: dict[str, str] | None = None) -> Callable[[Asked], Reply]:
    """Everything is as it should be, but for the answer to images."""

    def script(asked: Asked) -> Reply:
        if asked.path == "/v2":
            return Reply(content=b'{"name": "scripted", "extensions": ["binary_tensor_data"]}')
        if asked.method == "GET":
            return Reply(content=json.dumps(METADATA).encode())
        if asked.path.startswith("/predictions") and "describe" in str(asked.headers):
            return Reply(content=json.dumps(DESCRIPTION).encode())
        return Reply(content=content, headers=headers or {})

    return script


def refused(call: Callable[[], object], *, client: Client) -> InputError:
    try:
        with pytest.raises(InputError) as caught:
            call()
    finally:
        client.close()
    assert len(caught.value.message) < 2000
    assert caught.value.field.startswith("model")
    return caught.value


def answered_or_refused(client: Client) -> None:
    """A tensor whose shape fits its values, which is for the caller to judge, or a refusal; nothing else."""
    try:
        (found,) = client.predict([IMAGES])
    except InputError:
        return
    finally:
        client.close()
    assert min(found.shape, default=0) >= 0
    assert math.prod(found.shape) == len(found.data) // 4


def changed(path: tuple[Any, ...], value: Any) -> bytes:
    """The right answer with another value at one place."""
    answer = json.loads(json.dumps(ANSWER))
    place = answer
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(answer).encode()


SHAPES = [[-2, -2], [2, -1], [4], [2, 2, 1], [2, 3], "2x2", None, [None, 2], [2.5, 2], [[2], 2], [10**30, 0], [True, 4]]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_that_scores_cannot_have(server: Scripted, shape: Any) -> None:
    server.script = answering(changed(("outputs", 0, "shape"), shape))
    answered_or_refused(open_inference(server))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("outputs", 0, "data"), [1, 2, 3]),
        (("outputs", 0, "data"), [1, 2, 3, "four"]),
        (("outputs", 0, "data"), [1, 2, 3, None]),
        (("outputs", 0, "data"), "1234"),
        (("outputs", 0, "data"), {"0": 1}),
        (("outputs", 0, "data"), [1e300, 0, 0, 10**400]),
        (("outputs", 0, "datatype"), "BYTES"),
        (("outputs", 0, "datatype"), 7),
        (("outputs", 0, "name"), "z"),
        (("outputs", 0), "y"),
        (("outputs",), {}),
        (("outputs",), None),
        (("model_version",), "2"),
        (("outputs", 0, "parameters"), {"binary_data_size": 16}),
        (("outputs", 0, "parameters"), {"binary_data_size": -1}),
        (("outputs", 0, "parameters"), {"binary_data_size": 10**20}),
    ],
)
def test_an_answer_that_is_wrong_in_one_place(server: Scripted, path: tuple[Any, ...], value: Any) -> None:
    server.script = answering(changed(path, value))
    client = open_inference(server, version="1")
    refused(lambda: client.predict([IMAGES]), client=client)


@pytest.mark.parametrize("length", ["0", "5", "-3", "1e3", "999999999999999999999", "", "٣"])
def test_a_header_whose_length_is_wrong(server: Scripted, length: str) -> None:
    output = {**OUTPUT, "parameters": {"binary_data_size": 16}}
    del output["data"]
    header = json.dumps({"outputs": [output]}).encode()
    server.script = answering(header + bytes(16), {HEADER_LENGTH: length.encode().decode("latin-1")})
    client = open_inference(server)
    refused(lambda: client.predict([IMAGES]), client=client)


GARBAGE = [
    b"",
    b"null",
    b"[]",
    b"7",
    b'"text"',
    b"{}",
    b"\xff\xfe",
    b"<html>",
    DEEP,
    b"[" * 100_000,
    b'{"outputs": [[]]}',
]


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_garbage_instead_of_scores(server: Scripted, number: int) -> None:
    server.script = answering(GARBAGE[number])
    for client in (open_inference(server), torchserve(server)):
        client.describe()
        refused(lambda client=client: client.predict([IMAGES]), client=client)


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_garbage_instead_of_a_description(server: Scripted, number: int) -> None:
    server.script = lambda _: Reply(content=GARBAGE[number])
    for client in (open_inference(server), torchserve(server), torchserve(server, classes=2)):
        refused(client.describe, client=client)


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]},
        {"inputs": [{"name": "x", "datatype": "INT8", "shape": [-1, 3, SIDE, SIDE]}]},
        {"inputs": [{"name": "x", "datatype": ["FP32"], "shape": [-1, 3, SIDE, SIDE]}]},
        {"inputs": [{"name": "x"}, {"name": "w"}]},
        {"inputs": [{"name": "x", "shape": [-1, 3, SIDE + 1, SIDE]}]},
        {"inputs": []},
        {"inputs": "x"},
        {"outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}]},
        {"outputs": [{}]},
        {"outputs": None},
    ],
)
def test_metadata_of_no_classifier(server: Scripted, change: dict[str, Any]) -> None:
    content = json.dumps({**METADATA, **change}).encode()
    server.script = lambda asked: Reply(content=b'{"name": "scripted"}' if asked.path == "/v2" else content)
    client = open_inference(server)
    refused(client.describe, client=client)


@pytest.mark.parametrize("dtype", ["F64", "F16", "I64"])
def test_logits_of_another_type(server: Scripted, dtype: str) -> None:
    size = {"F64": 8, "F16": 2, "I64": 8}[dtype]
    server.script = answering(write_tensors({"logits": (dtype, (2, 2), bytes(4 * size))}))
    client = torchserve(server)
    client.describe()
    refused(lambda: client.predict([IMAGES]), client=client)


@pytest.mark.parametrize("seed", range(40))
def test_bytes_that_were_damaged_on_the_way(server: Scripted, seed: int) -> None:
    chance = np.random.default_rng(seed)
    right = json.dumps(ANSWER).encode() if seed % 2 else write_tensors({"logits": ("F32", (2, 2), bytes(16))})
    content = bytearray(right)
    for place in chance.integers(len(content), size=3):
        content[place] = chance.integers(256)
    stop = len(content) if seed % 3 else chance.integers(len(content))
    server.script = answering(bytes(content[:stop]))
    client = open_inference(server) if seed % 2 else torchserve(server)
    client.describe()
    answered_or_refused(client)
