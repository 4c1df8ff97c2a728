"""Explainers behind a server: what is sent and read by three protocols, what a trial finds, and what fails how."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import digits
import small_networks
from auditcore.contracts.access import AccessRules
from auditcore.contracts.capabilities import BLACK_BOX, explainer_incompatibility, pair_incompatibility
from auditcore.contracts.checks import RandomizationCheck, SensitivityCheck
from auditcore.contracts.explainers import Gradient, ServedExplainer
from auditcore.errors import (
    ExplainerFailing,
    ModelChanged,
    RequestBudgetExceeded,
    ServerFailing,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.explainers.explanation_client import flattened, images_in_json, shaped
from auditcore.explainers.registry import applicability, explain
from auditcore.models.classifier import Classifier
from auditcore.random_numbers.streams import Streams
from auditcore.sources.servers.tensors import RawTensor
from scripted_server import Asked, Reply, Scripted, scripted

TARGETS = torch.tensor([3, 5, 1])
Maps = Callable[[Tensor, list[int]], Tensor]


def maps_of(images: Tensor, targets: list[int]) -> Tensor:
    """What the server explains: the images times the number of the class."""
    return images * torch.tensor(targets)[:, None, None, None].add(1)


def read(asked: Asked) -> tuple[Tensor, list[int]]:
    """Images and classes of a request, by its path."""
    if asked.path.startswith("/explanations/"):
        parts = re.findall(
            rb'name="(\w+)"; filename="\w+\.json"\r\nContent-Type: application/json\r\n\r\n(.*?)\r\n--', asked.body
        )
        found = {name.decode(): json.loads(value) for name, value in parts}
        return torch.tensor([found["data"]]), [found["target"]]
    body = json.loads(asked.body)
    if asked.path.startswith("/v1/"):
        return torch.tensor([one["data"] for one in body["instances"]]), [one["target"] for one in body["instances"]]
    images, classes = body["inputs"]
    assert (images["name"], images["datatype"], classes["datatype"]) == ("images", "FP32", "INT64")
    return torch.tensor(images["data"]).view(images["shape"]), classes["data"]


def answered(asked: Asked, maps: Tensor) -> Reply:
    """Maps in the form of the protocol."""
    answer: Any
    if asked.path.startswith("/explanations/"):
        answer = maps[0].tolist()
    elif asked.path.startswith("/v1/"):
        answer = {"explanations": maps.tolist()}
    else:
        tensor = {
            "name": "explanations",
            "shape": list(maps.shape),
            "datatype": "FP32",
            "data": maps.flatten().tolist(),
        }
        answer = {"outputs": [{"name": "scores", "shape": [1], "datatype": "FP32", "data": [0]}, tensor]}
    return Reply(content=json.dumps(answer).encode(), headers={"Content-Type": "application/json"})


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted(lambda asked: answered(asked, maps_of(*read(asked)))) as running:
        yield running


def contract(server: Scripted, protocol: str = "kserve_v1", **fields: Any) -> ServedExplainer:
    limits = {"attempts": 1, "timeout_s": 10} | fields.pop("limits", {})
    return ServedExplainer.model_validate(
        {"protocol": protocol, "url": server.url, "model": "digits", "limits": limits} | fields
    )


def fresh() -> Classifier:
    return Classifier(small_networks.network(small_networks.plain()), preprocessing=digits.PREPROCESSING)


def images() -> Tensor:
    return digits.digit_pixels()[0][:3]


def found(classifier: Classifier, explainer: ServedExplainer) -> Tensor:
    streams = Streams(7, tuple(f"sha256:{number}" for number in range(3)))
    return explain(classifier, explainer, images(), TARGETS, streams).maps


@pytest.mark.parametrize("values", ["normalized", "pixels"])
@pytest.mark.parametrize(
    ("protocol", "path"),
    [
        ("kserve_v1", "/v1/models/digits:explain"),
        ("torchserve", "/explanations/digits/2.0"),
        ("open_inference", "/v2/models/digits/versions/2.0/infer"),
    ],
)
def test_maps_come_by_every_protocol(server: Scripted, protocol: str, path: str, values: str) -> None:
    version = {} if protocol == "kserve_v1" else {"version": "2.0"}
    explainer = contract(server, protocol, values=values, **version)
    classifier = fresh()
    assert applicability(classifier, explainer) is None
    before = classifier.ledger.forward_images
    maps = found(classifier, explainer)
    sent = images() if values == "pixels" else classifier.normalize(images())
    torch.testing.assert_close(maps, maps_of(sent, TARGETS.tolist()), rtol=1e-6, atol=1e-6)
    assert classifier.ledger.forward_images == before
    assert {asked.path for asked in server.asked} == {path}


def test_requests_hold_as_many_images_as_the_limits_say(server: Scripted) -> None:
    classifier = fresh()
    found(classifier, contract(server, limits={"images_per_request": 2}))
    # the probe, then two images and one
    assert sorted(len(read(asked)[0]) for asked in server.asked) == [1, 1, 2]
    found(classifier, contract(server, "torchserve"))
    assert [len(read(asked)[0]) for asked in server.asked[3:]] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("maps", "fields", "reason"),
    [
        (lambda images, _: images + torch.rand(1), {}, "set `draws` to true"),
        (lambda images, _: images / images.abs().max(), {}, "images_per_request` to 1"),
        (lambda images, _: images[..., ::2], {}, "enlarge smaller maps"),
        (lambda images, _: images / 0, {}, "NaN or infinite"),
    ],
    ids=["random", "mixing", "small", "infinite"],
)
def test_a_trial_finds_what_is_wrong(server: Scripted, maps: Maps, fields: dict[str, Any], reason: str) -> None:
    server.script = lambda asked: answered(asked, maps(*read(asked)))
    assert reason in str(applicability(fresh(), contract(server, **fields)))


def test_what_is_declared_is_taken(server: Scripted) -> None:
    server.script = lambda asked: answered(asked, read(asked)[0] + torch.rand(1))
    assert applicability(fresh(), contract(server, draws=True)) is None
    server.script = lambda asked: answered(asked, read(asked)[0] / read(asked)[0].abs().max())
    assert applicability(fresh(), contract(server, limits={"images_per_request": 1})) is None


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (
            Reply(status=404, content=b"no such model"),
            ExplainerFailing,
            "404: no such model; check `protocol`, `model`",
        ),
        (Reply(status=400, content=b"bad"), ExplainerFailing, "400: bad"),
        (Reply(content=b"<html>"), ExplainerFailing, "answers no maps .*<html>"),
        (Reply(content=b'{"predictions": [1]}'), ExplainerFailing, "KeyError: 'explanations'.*check `maps`"),
        (Reply(content=b'{"explanations": [["a"]]}'), ExplainerFailing, "'a' is no number"),
        (Reply(content=b'{"explanations": [[1, 2], [3]]}'), ExplainerFailing, "differ in length"),
        (Reply(content=b'{"explanations": [[NaN]]}'), ExplainerFailing, "NaN or infinite"),
        (Reply(content=b'{"explanations": ' + b"[" * 100_000), ExplainerFailing, "answers no maps"),
        (Reply(status=503, content=b"busy"), ServerFailing, "503: busy"),
        (Reply(status=401, content=b"who?"), UnreachableResource, "refuses requests without a token"),
        (Reply(status=302, headers={"Location": "http://elsewhere/"}), UnreachableResource, "not followed"),
    ],
    ids=lambda value: value.content[:24].decode() if isinstance(value, Reply) else "",
)
def test_hostile_answers_are_errors_of_the_plan(
    server: Scripted, reply: Reply, error: type[Exception], message: str
) -> None:
    server.script = lambda _asked: reply
    with pytest.raises(error, match=message) as raised:
        found(fresh(), contract(server))
    assert raised.value.field == "plan.explainers"  # type: ignore[attr-defined] # every one is an InputError


def test_another_explainer_in_its_place_is_found(server: Scripted) -> None:
    classifier, explainer = fresh(), contract(server)
    found(classifier, explainer)
    found(classifier, explainer)
    server.script = lambda asked: answered(asked, -maps_of(*read(asked)))
    with pytest.raises(ModelChanged, match="have changed since the audit began"):
        found(classifier, explainer)


def test_no_more_requests_are_sent_than_allowed(server: Scripted) -> None:
    classifier = fresh()
    explainer = contract(server, limits={"images_per_request": 1, "requests": 5})
    found(classifier, explainer)
    with pytest.raises(RequestBudgetExceeded):
        found(classifier, explainer)
    assert len(server.asked) == 5


def test_only_allowed_servers_are_asked(server: Scripted) -> None:
    AccessRules(server_prefixes=(f"{server.url}/",)).check_explainers((contract(server),))
    with pytest.raises(UnsafeReference, match="AUDIT_SERVER_PREFIXES") as raised:
        AccessRules().check_explainers((Gradient(), contract(server)))
    assert raised.value.field == "plan.explainers.1.url"
    with pytest.raises(UnsafeReference, match="AUDIT_TOKEN_ROOTS") as raised:
        AccessRules(server_prefixes=(f"{server.url}/",)).check_explainers(
            (contract(server, token_file=str(Path("/etc/key"))),)
        )
    assert raised.value.field == "plan.explainers.0.token_file"


def test_it_explains_black_boxes_but_no_altered_weights(server: Scripted) -> None:
    explainer = contract(server)
    assert explainer_incompatibility(explainer, BLACK_BOX) is None
    assert "come from a server" in str(pair_incompatibility(RandomizationCheck(), explainer))
    assert pair_incompatibility(SensitivityCheck(), explainer) is None


def test_versions_need_a_place() -> None:
    with pytest.raises(ValueError, match="leave `version` out"):
        ServedExplainer(protocol="kserve_v1", url="http://host", model="m", version="1")


def test_numbers_survive_the_way_as_text() -> None:
    values = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    text = images_in_json(RawTensor((2, 3, 4, 5), values.numpy().tobytes()))
    assert torch.equal(torch.tensor([json.loads(one) for one in text]), values)
    shape, numbers = flattened(values.tolist())
    assert shape == (2, 3, 4, 5)
    assert shaped(numbers, [2, 3, 4, 5]) == values.tolist()
    with pytest.raises(ValueError, match="do not fit the shape"):
        shaped(numbers, [2, 3, 4, 6])
