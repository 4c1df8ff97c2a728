"""`auditcore train --url`: a gateway on a port, a worker, and the command between folders and files."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

import digits
from auditcore.client import Client
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.training.report import TrainingReport
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from command_line import run
from running_gateway import running_gateway, url_of
from service_trainings import ALLOWED, IMAGES, MODEL, PLAN, undisturbed
from worker_in_process import working


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(queue="database", **ALLOWED)


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with running_gateway(settings) as server:
        yield url_of(server)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty digits, in a folder for each class and in one with a table of labels."""
    place = tmp_path / "files"
    for image in digits.encoded(IMAGES, labeled=True):
        for path in (place / "classes" / str(image.label), place / "table" / "images"):
            path.mkdir(parents=True, exist_ok=True)
            (path / f"{image.index:02}.png").write_bytes(image.data)
    rows = [f"{image.index:02}.png,{image.label}" for image in digits.encoded(IMAGES, labeled=True)]
    (place / "table" / "labels.csv").write_text("\n".join(["name,label", *rows]))
    return place


def train(folder: Path, url: str, *options: str | Path, **changes: Any) -> Result:
    request = folder / "request.json"
    request.write_text(json.dumps({"model": MODEL, "plan": PLAN | changes}))
    return run("train", request, "--out", folder / "out.safetensors", "--url", url, *options)


def test_folders_become_weights_and_a_report(settings: Settings, url: str, folder: Path) -> None:
    with working(settings):
        done = train(folder, url, "--training", folder / "table", "--validation", folder / "classes")
    assert done.exit_code == 0, done.output
    weights = (folder / "out.safetensors").read_bytes()
    report = TrainingReport.model_validate_json((folder / "out.safetensors.report.json").read_bytes())
    assert report.trained.weights == sha256(weights)
    assert (report.data.training_images, report.data.validation_images) == (IMAGES, IMAGES)
    # byte for byte what the service keeps
    status = httpx.get(f"{url}/v1/trainings/{report.training_id}").json()
    assert (
        httpx.get(f"{url}{status['links']['report']}").content == (folder / "out.safetensors.report.json").read_bytes()
    )
    # the gateway in this process prints its log there too
    assert json.loads(done.stdout.splitlines()[-1])["weights"] == {
        "uri": f"blob:{sha256(weights)}",
        "sha256": sha256(weights),
    }
    assert f"training {report.training_id} accepted" in done.stderr
    assert "validation score" in done.stderr
    assert {path.name for path in folder.glob("out*")} == {"out.safetensors", "out.safetensors.report.json"}


def test_images_with_labels_train_as_they_do_here(settings: Settings, url: str, folder: Path) -> None:
    labels = folder / "labels.json"
    labels.write_text(json.dumps([image.label for image in digits.encoded(IMAGES, labeled=True)]))
    with working(settings):
        done = train(folder, url, "--images", folder / "table" / "images", "--labels", labels)
    assert done.exit_code == 0, done.output
    assert (folder / "out.safetensors").read_bytes() == undisturbed()


def test_what_the_service_refuses_names_the_field_and_writes_nothing(url: str, folder: Path) -> None:
    wrong = train(folder, url, "--training", folder / "table", epochs=0)
    assert wrong.exit_code == 2
    assert "/plan/epochs" in wrong.stderr
    nowhere = train(folder, url, "--training", folder / "nowhere")
    assert (nowhere.exit_code, "there is no such folder" in nowhere.stderr) == (2, True)
    assert not (folder / "out.safetensors").exists()


def test_a_training_that_fails_says_why(settings: Settings, url: str, folder: Path) -> None:
    with working(settings):
        failed = train(
            folder, url, "--training", folder / "table", epochs=30, optimizer={"kind": "sgd", "learning_rate": 100}
        )
    assert failed.exit_code == 2
    assert "failed" in failed.stderr
    assert "plan.optimizer.learning_rate" in failed.stderr
    assert "error: training" in failed.stderr
    assert not (folder / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [(("--resume", "x"), "--resume"), (("--checkpoint", "x"), "--checkpoint"), (("--device", "cpu"), "--device")],
)
def test_options_of_this_process_are_refused(folder: Path, options: tuple[str, str], named: str) -> None:
    done = train(folder, "http://127.0.0.1:9", *options)
    assert (done.exit_code, f"{named} is for trainings in this process" in done.stderr) == (2, True), done.output


def test_ctrl_c_stops_waiting_and_not_the_training(settings: Settings, url: str, folder: Path) -> None:
    service = Service.of(settings)

    def press() -> None:
        while not httpx.get(f"{url}/v1/trainings").json()["items"]:
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    # tests that were started in the background ignore the signal
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        done = train(folder, url, "--training", folder / "table")
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130, done.output
    (training,) = httpx.get(f"{url}/v1/trainings").json()["items"]
    assert training["state"] == "queued"
    assert f"-X POST {url}/v1/trainings/{training['id']}/cancel" in done.stderr
    assert service.trainings.get(ANONYMOUS, training["id"]).state == "queued"
    service.database.close()


def test_weights_that_are_not_those_of_the_report_are_not_written(
    settings: Settings, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Client.trained_weights
    monkeypatch.setattr(Client, "trained_weights", lambda client, name: real(client, name)[:-1])
    with working(settings):
        done = train(folder, url, "--training", folder / "table")
    assert (done.exit_code, "are not those of the report" in done.stderr) == (2, True), done.output
    assert not (folder / "out.safetensors").exists()
