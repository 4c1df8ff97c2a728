"""Models behind a real TorchServe 0.12: the same scores as the model itself, and what is said where that cannot be."""

from __future__ import annotations

import json
import re
import runpy
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import torch
import torchvision
from safetensors.numpy import load, save
from torch import nn

import digits
import prediction_only
from auditcore.auditing import audit, inspect_model
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.capabilities import NO_GRADIENTS, NO_WEIGHTS
from auditcore.contracts.inspection import InspectionRequest
from auditcore.contracts.models import DemoModel
from auditcore.contracts.report import AuditReport
from auditcore.contracts.server_models import TorchServeModel
from auditcore.errors import (
    InputError,
    InvalidRequest,
    ModelChanged,
    ModelOutputInvalid,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.explainers.registry import explain
from auditcore.images.encoded import EncodedImage
from auditcore.models.archive_writing import write_archive
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.random_numbers.streams import Streams
from auditcore.sources.servers.torchserve.client import TorchServeClient
from auditcore.tensor_files import write_tensors
from auditcore_service.embedded.process_tree import EmbeddedService
from auditcore_service.settings import Settings
from command_line import run
from torchserve_server import RunningTorchServe, torchserve

pytestmark = [pytest.mark.slow, pytest.mark.long]

HEALTH = Path(__file__).parents[2] / "docker/torchserve/health.py"
PLAIN_SIDE = 64
CONFIG = {"resize": PLAIN_SIDE, "crop": PLAIN_SIDE, "mean": [0, 0, 0], "std": [1, 1, 1]}


def plain_archive(store: Path, name: str, version: str, seed: int) -> Path:
    """A model with random weights behind TorchServe's own image_classifier, as torch-model-archiver packs it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = torchvision.models.mobilenet_v3_small(weights=None, num_classes=12).eval()
        # unscaled random weights would give all classes the same probability
        nn.init.normal_(network.classifier[-1].bias)
    script = store / f"{name}-{seed}.pt"
    with warnings.catch_warnings():
        # TorchScript is deprecated, and what TorchServe takes
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 224, 224)), script)
    command = [
        str(Path(sys.executable).with_name("torch-model-archiver")),
        *("--model-name", name, "--version", version, "--serialized-file", str(script)),
        *("--handler", "image_classifier", "--export-path", str(store), "--force"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    archive = store / f"{name}-{version}.mar"
    (store / f"{name}.mar").rename(archive)
    return archive


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTorchServe]:
    folder = tmp_path_factory.mktemp("torchserve")
    store = folder / "store"
    store.mkdir()
    reference = digits.reference(digits.write_weights(folder))
    access = digits.access(folder)
    write_archive(store / "digits.mar", name="digits", version="1.0", model=reference, access=access)
    write_archive(store / "photos.mar", name="photos", version="1.0", model=DemoModel(), access=AccessRules())
    other = reference.model_copy(update={"weights": reference.weights.model_copy(update={"uri": "random:3"})})
    write_archive(store / "digits-2.mar", name="digits", version="2.0", model=other, access=access)
    plain_archive(store, "plain", "2.0", 2)
    plain_archive(store, "plain", "1.0", 1).rename(store / "plain.mar")
    archives = [store / f"{name}.mar" for name in ("digits", "photos", "plain")]
    with torchserve(folder, archives, tokens=True) as running:
        yield running


def allowed(server: RunningTorchServe) -> AccessRules:
    return AccessRules(
        server_prefixes=(f"{server.inference}/", f"{server.management}/", "http://127.0.0.1:9/"),
        token_roots=(server.folder,),
    )


def served(server: RunningTorchServe, name: str = "digits", **changes: Any) -> TorchServeModel:
    fields = {"url": server.inference, "name": name, "token_file": str(server.keys), **changes}
    return TorchServeModel.model_validate(fields)


def test_every_prediction_only_check_gives_the_scores_of_the_model_itself(
    server: RunningTorchServe, tmp_path: Path
) -> None:
    itself = prediction_only.white_box(tmp_path)
    behind = prediction_only.audited(
        served(server),
        allowed(server),
        explainers=[*prediction_only.EXPLAINERS, prediction_only.GRADIENT],
        checks=[*prediction_only.CHECKS, {"kind": "randomization", "stages": 1}],
    )
    asked = [one for one in behind.results if one.explainer != "gradient" and one.check != "randomization"]
    mine = behind.model_copy(
        update={"results": tuple(asked), "controls": tuple(c for c in behind.controls if c.check != "randomization")}
    )
    compared, worst = prediction_only.differences(mine, itself)
    assert not worst
    assert compared > 700
    assert {one.check for one in asked} - {"explainer"} == {check["kind"] for check in prediction_only.CHECKS}
    reasons = {r for one in behind.results if one.explainer == "gradient" for r in one.reasons.values()}
    assert reasons == {NO_GRADIENTS}
    randomized = [one for one in behind.results if one.check == "randomization" and one.explainer != "gradient"]
    assert {r for one in randomized for r in one.reasons.values()} == {NO_WEIGHTS}
    # the handler says which weights it serves: they are those of the model itself
    assert behind.model is not None
    assert itself.model is not None
    assert behind.model.digest == itself.model.digest
    assert behind.model.parameters is None
    assert behind.model.reference.version == "1.0"  # type: ignore[union-attr]
    assert behind.model.reference.sha256 is not None  # type: ignore[union-attr]
    assert any("TorchServe with the handler of auditcore" in note for note in behind.notes)


def test_an_imagenet_model_on_photos_gives_the_scores_of_the_model_itself(server: RunningTorchServe) -> None:
    import skimage.data  # noqa: PLC0415 - only this test needs photos

    folder = Path(skimage.data.__file__).parent
    photos = [
        EncodedImage(n, name, (folder / name).read_bytes(), None)
        for n, name in enumerate(("coffee.png", "chelsea.png"))
    ]
    plan: dict[str, Any] = {
        "explainers": [{"kind": "ablation", "grid": 4}, {"kind": "rise", "masks": 24}],
        "checks": [{"kind": "deletion", "grid": 4, "repeats": 1}, {"kind": "edda", "keep": [0.15]}],
    }
    behind = prediction_only.audited(served(server, "photos"), allowed(server), images=photos, **plan)
    itself = prediction_only.audited(DemoModel(), AccessRules(), images=photos, **plan)
    compared, worst = prediction_only.differences(behind, itself)
    assert not worst
    assert compared > 40


def test_explanations_are_those_of_the_explainer_and_can_be_audited_as_uploaded_maps(
    server: RunningTorchServe, tmp_path: Path, digit_classifier: Classifier
) -> None:
    pixels = (digits.digit_pixels()[0][:3] * 255).round() / 255
    inputs = digit_classifier.normalize(pixels).contiguous().numpy()
    method = {"kind": "integrated_gradients", "steps": 9}
    body = write_tensors({"inputs": ("F32", inputs.shape, inputs.tobytes())}, {"explainer": json.dumps(method)})
    answer = httpx.post(
        f"{server.inference}/explanations/digits",
        content=body,
        headers={"Content-Type": "application/octet-stream", **server.token("inference")},
    )
    assert answer.status_code == 200, answer.text
    found = load(answer.content)
    targets = digit_classifier.logits(pixels).argmax(1)
    np.testing.assert_array_equal(found["targets"], targets.numpy())
    contract = prediction_only.request(DemoModel(), explainers=[method]).plan.explainers[0]  # type: ignore[union-attr]
    streams = Streams(0, ("a", "b", "c"))
    maps = explain(digit_classifier, contract, pixels, targets, streams).maps.numpy()
    np.testing.assert_allclose(found["maps"], maps, atol=1e-5 * np.abs(maps).max())
    # what the server shows, audited against the model behind it
    digest = sha256(answer.content)
    checks: list[dict[str, Any]] = [{"kind": "deletion", "grid": 4}]
    shown = {"kind": "precomputed", "maps": digest, "map_kind": "attribution"}
    report = audit(
        prediction_only.request(served(server), explainers=[shown], checks=checks),
        images=prediction_only.images(),
        access=allowed(server),
        maps={digest: answer.content},
    )
    itself = prediction_only.white_box(tmp_path, explainers=[method], checks=checks)
    for metric in ("lerf_auc", "morf_auc"):
        mine, theirs = (
            next(one.per_image for one in each.results if one.metric == metric) for each in (report, itself)
        )
        assert mine == pytest.approx(theirs, abs=prediction_only.TOLERANCE)


@pytest.mark.parametrize(
    ("metadata", "content", "match"),
    [
        ({"explainer": '{"kind": "nothing"}'}, None, "must name an explainer"),
        ({"explainer": '{"kind": "iba"}'}, None, "statistics over the images of a whole audit"),
        ({"explainer": '{"kind": "grad_cam", "layer": "nowhere"}'}, None, "nowhere"),
        ({}, b"no photo", "neither tensors in the safetensors format nor a photo"),
        ({}, write_tensors({"inputs": ("F32", (1, 3, 4, 4), bytes(192))}), r"\(N,3,32,32\) float32"),
    ],
)
def test_the_handler_reports_what_is_wrong_with_a_request(
    server: RunningTorchServe, metadata: dict[str, str], content: bytes | None, match: str
) -> None:
    inputs = np.zeros((1, 3, 32, 32), np.float32)
    body = content or write_tensors({"inputs": ("F32", inputs.shape, inputs.tobytes())}, metadata)
    answer = httpx.post(
        f"{server.inference}/explanations/digits",
        content=body,
        headers={"Content-Type": "application/octet-stream", **server.token("inference")},
    )
    assert answer.status_code == 400
    assert re.search(match, answer.json()["message"])


def test_a_photo_is_answered_as_people_expect(server: RunningTorchServe, digit_classifier: Classifier) -> None:
    answer = httpx.post(
        f"{server.inference}/predictions/digits", content=digits.png(0), headers=server.token("inference")
    ).json()
    pixels = (digits.digit_pixels()[0][:1] * 255).round() / 255
    assert answer["logits"] == pytest.approx(digit_classifier.logits(pixels)[0].tolist(), abs=1e-4)
    assert sum(answer["probabilities"]) == pytest.approx(1)


def test_inspection_lists_what_runs_before_an_audit(server: RunningTorchServe) -> None:
    found = inspect_model(InspectionRequest(model=served(server)), access=allowed(server))
    runs = {one.name: one.runs for one in (*found.explainers, *found.checks)}
    assert runs["rise"]
    assert runs["ablation"]
    assert not runs["gradient"]
    assert not runs["randomization"]
    assert found.facts["classes"] == 10
    assert found.model.version == "1.0"  # type: ignore[union-attr]


# --- the plain handler -----------------------------------------------------------------------------


def test_the_plain_handler_is_detected_and_audited_with_what_is_possible(server: RunningTorchServe) -> None:
    model = served(server, "plain", classes=12, preprocessing=CONFIG, management_url=server.management)
    report = prediction_only.audited(
        model,
        allowed(server),
        explainers=[{"kind": "rise", "masks": 8}, {"kind": "random"}],
        checks=[{"kind": "deletion", "grid": 2}, {"kind": "complexity"}],
        images=prediction_only.images(2),
    )
    assert report.model is not None
    assert report.model.capabilities.top_classes == 5
    assert report.model.classes == 12
    assert report.model.reference.version == "1.0"  # type: ignore[union-attr]
    by_name = {(one.check, one.explainer): one for one in (*report.results, *report.controls)}
    assert "5 most probable classes" in next(iter(by_name["deletion", "rise"].reasons.values()))
    assert by_name["complexity", "random"].per_image[0] is not None
    # the most probable class, with the probability that the server itself says
    item = report.images.items[0]
    side = PLAIN_SIDE
    assert item.probability > 1 / 12
    assert side == report.model.preprocessing.crop


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"preprocessing": CONFIG}, "model.classes"),
        ({"classes": 12}, "model.preprocessing"),
        ({"classes": 3, "preprocessing": CONFIG}, "model.classes"),
        ({"class_names": ["cat", "dog"], "preprocessing": CONFIG}, "model.class_names"),
    ],
)
def test_information_that_the_plain_handler_lacks_is_required(
    server: RunningTorchServe, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InputError) as caught:
        TorchServeClient(served(server, "plain", **changes)).describe()
    assert caught.value.field == field


# --- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "kind", "field", "match"),
    [
        ({"name": "digitz"}, InvalidRequest, "model.name", "has no model 'digitz'"),
        ({"version": "7.0"}, InvalidRequest, "model.version", "has no version '7.0'"),
        ({"url": "http://127.0.0.1:9"}, UnreachableResource, "model.url", "cannot be reached"),
        ({"url": "http://localhost:8080"}, UnsafeReference, "model.url", "AUDIT_SERVER_PREFIXES"),
        ({"token_file": "/etc/passwd"}, UnsafeReference, "model.token_file", "AUDIT_TOKEN_ROOTS"),
        ({"token_file": None}, UnreachableResource, "model.token_file", "without a token"),
        ({"classes": 11}, ModelOutputInvalid, "model.classes", "10 classes, not 11"),
        ({"sha256": "sha256:" + "e" * 64}, ModelChanged, "model.sha256", "a different model"),
        ({"scores": "sigmoid"}, InvalidRequest, "model.scores", "other scores"),
    ],
)
def test_a_reference_that_does_not_fit_says_where(
    server: RunningTorchServe, changes: dict[str, Any], kind: type[InputError], field: str, match: str
) -> None:
    changes = {"limits": {"attempts": 2}, **changes}
    with pytest.raises(kind, match=match) as caught:
        prediction_only.audited(served(server, **changes), allowed(server))
    assert caught.value.field == field


def test_existing_names_are_listed_if_the_management_address_is_known(server: RunningTorchServe) -> None:
    with pytest.raises(InvalidRequest, match=r"there are .*digits"):
        TorchServeClient(served(server, "digitz", management_url=server.management)).describe()


def test_the_health_check_of_the_image_tells_a_server_that_answers(server: RunningTorchServe, tmp_path: Path) -> None:
    """TorchServe answers 400 to a ping without a key, so that a plain request would never be healthy."""
    assert server.keys is not None
    assert httpx.get(f"{server.inference}/ping").status_code == 400
    is_healthy = runpy.run_path(str(HEALTH))["is_healthy"]
    port = urlsplit(server.inference).port
    assert is_healthy(server.keys, port)
    expired = tmp_path / "key_file.json"
    expired.write_text(json.dumps({"inference": {"key": "expired"}}))
    assert is_healthy(expired, port)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert not is_healthy(server.keys, silent.getsockname()[1])
    assert not is_healthy(tmp_path / "none", port)


def test_a_token_that_was_renewed_is_read_again(server: RunningTorchServe, tmp_path: Path) -> None:
    assert server.keys is not None
    valid = json.loads(server.keys.read_text())["inference"]["key"]
    token = tmp_path / "token"
    token.write_text("expired")
    access = allowed(server).model_copy(update={"token_roots": (tmp_path,)})
    model = served(server, token_file=str(token), limits={"attempts": 2})
    with pytest.raises(UnreachableResource, match="refuses requests with the token") as caught:
        load_classifier(model, access=access)
    assert caught.value.field == "model.token_file"
    token.write_text(valid)
    classifier = load_classifier(model, access=access)
    # and in the middle of an audit: the transport holds a token that was valid when it began
    client = classifier.source._client  # type: ignore[union-attr]
    client._inference._token = "expired"  # noqa: S105 - not a secret
    assert classifier.logits(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_another_model_in_mid_audit_fails_it(server: RunningTorchServe) -> None:
    access = allowed(server)
    # not resolved, so that the default version is asked for, whatever it becomes
    classifier = load_classifier(served(server), access=access)
    source = classifier.source
    assert source is not None
    source.begin(10)
    server.register("digits-2.mar")
    server.make_default("digits", "2.0")
    try:
        with pytest.raises(ModelChanged, match=r"now serves a different model, version 2\.0"):
            source.end()
        # an audit that was submitted before is pinned to the version of then
        pinned = load_classifier(served(server, version="1.0"), access=access)
        assert pinned.digest == classifier.digest
    finally:
        server.make_default("digits", "1.0")
        server.unregister("digits", "2.0")


def test_another_model_behind_a_silent_handler_is_detected_by_its_answers(
    server: RunningTorchServe,
) -> None:
    model = served(server, "plain", classes=12, preprocessing=CONFIG)
    source = load_classifier(model, access=allowed(server)).source
    assert source is not None
    source.begin(10)
    server.register("plain-2.0.mar")
    server.make_default("plain", "2.0")
    try:
        with pytest.raises(ModelChanged, match="answers have changed since the audit began"):
            source.end()
    finally:
        server.make_default("plain", "1.0")
        server.unregister("plain", "2.0")


def test_the_whole_path_over_http(server: RunningTorchServe, tmp_path: Path, digit_classifier: Classifier) -> None:
    """Looked at, explained by the server, its maps uploaded, audited, and told, as from a pipeline."""
    rules = allowed(server)
    settings = Settings(
        data_dir=tmp_path / "data",
        port=0,
        threads=1,
        device="cpu",
        server_prefixes=rules.server_prefixes,
        token_roots=rules.token_roots,
    )
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number}.png").write_bytes(digits.png(number))
    file = tmp_path / "request.json"
    with EmbeddedService(settings) as service:
        file.write_text(served(server).model_dump_json())
        seen = run("inspect", file, "--url", service.base_url)
        assert seen.exit_code == 0, seen.output
        assert re.search(r"^version: 1\.0$", seen.stdout, re.MULTILINE)
        assert re.search(r"^occlusion +yes", seen.stdout, re.MULTILINE)
        assert re.search(r"^grad_cam +no +.*(served|gradient)", seen.stdout, re.MULTILINE)

        pixels = (digits.digit_pixels()[0][:3] * 255).round() / 255
        inputs = digit_classifier.normalize(pixels).contiguous().numpy()
        answer = httpx.post(
            f"{server.inference}/explanations/digits",
            content=save({"inputs": inputs}, {"explainer": json.dumps({"kind": "saliency"})}),
            headers={"Content-Type": "application/octet-stream", **server.token("inference")},
        )
        maps = tmp_path / "maps.safetensors"
        maps.write_bytes(answer.content)
        uploaded = run("maps", maps, "--url", service.base_url)
        assert uploaded.exit_code == 0, uploaded.output

        request = prediction_only.request(
            served(server),
            explainers=[{"kind": "ablation", "grid": 4}, {"kind": "precomputed", "maps": uploaded.stdout.strip()}],
            checks=[{"kind": "deletion", "grid": 4, "repeats": 1}, {"kind": "edda", "keep": [0.15]}],
        ).model_dump(mode="json")
        condition = {"check": "deletion", "explainer": "precomputed", "metric": "lerf_auc", "at_least": 0.0}
        condition["min_images"] = 2
        file.write_text(json.dumps({"model": request["model"], "plan": request["plan"], "policy": [condition]}))
        out = tmp_path / "report.json"
        audited = run("submit", file, "--url", service.base_url, "--images", photos, "--wait", "--out", out)
        # every map meets this condition, also a random one
        assert audited.exit_code == 3, audited.output
        with httpx.Client(base_url=service.base_url) as client:
            (audit_id,) = (one["id"] for one in client.get("/v1/audits").json()["items"])
            page = client.get(f"/v1/audits/{audit_id}/report", headers={"Accept": "text/html"}).text
    report = AuditReport.model_validate_json(out.read_bytes())
    assert (report.verdict, report.statistics.vacuous) == ("inconclusive", 1)
    assert report.model.reference.version == "1.0"  # type: ignore[union-attr]
    assert report.model.reference.sha256 is not None  # type: ignore[union-attr]
    assert {row.explainer for row in report.results if row.mean is not None} >= {"ablation", "precomputed"}
    assert "black box" in page
    # no token anywhere, neither in the report nor in what the service keeps
    secret = server.token("inference")["Authorization"].removeprefix("Bearer ")
    kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert kept
    assert not any(secret.encode() in path.read_bytes() for path in [*kept, out])
