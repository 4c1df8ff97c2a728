"""`auditcore train`: a training without a service, interrupted by Ctrl-C and gone on with."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import digits
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.training.report import TrainingReport
from auditcore_service.cli import training
from command_line import run
from service_trainings import MODEL, NETWORK, PLAN, undisturbed

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty digits and their labels."""
    monkeypatch.setenv("AUDIT_FACTORIES", f'["{NETWORK}"]')
    images = digits.encoded(COUNT, labeled=True)
    (tmp_path / "photos").mkdir()
    for image in images:
        # their names sort as they are numbered
        (tmp_path / "photos" / f"{image.index:02}.png").write_bytes(image.data)
    (tmp_path / "labels.json").write_text(json.dumps([image.label for image in images]))
    return tmp_path


def train(folder: Path, *options: str | Path, **changes: Any) -> Any:
    request = folder / "request.json"
    request.write_text(json.dumps({"model": MODEL, "plan": PLAN | changes}))
    out = folder / "out.safetensors"
    given = ("--images", folder / "photos", "--labels", folder / "labels.json", "--out", out, "--device", "cpu")
    return run("train", request, *given, *options)


def test_it_writes_weights_and_a_report_and_prints_the_model(folder: Path) -> None:
    done = train(folder)
    assert done.exit_code == 0, done.output
    weights = (folder / "out.safetensors").read_bytes()
    assert weights == undisturbed(count=COUNT)
    report = TrainingReport.model_validate_json((folder / "out.safetensors.report.json").read_bytes())
    assert report.trained.weights == sha256(weights)
    reference = json.loads(done.stdout)
    assert reference["weights"]["uri"] == (folder / "out.safetensors").as_uri()
    assert "validation score" in done.stderr
    assert {path.name for path in folder.iterdir()} == {
        "photos",
        "labels.json",
        "request.json",
        "out.safetensors",
        "out.safetensors.report.json",
    }


@pytest.mark.long
def test_ctrl_c_leaves_a_checkpoint_from_which_it_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    checkpoint = folder / "out.safetensors.checkpoint"

    def press() -> None:
        while not checkpoint.exists():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    stopped = train(folder, epochs=100)
    assert stopped.exit_code == 130, stopped.output
    assert f"--resume {checkpoint}" in stopped.stderr
    assert not (folder / "out.safetensors").exists()
    # a checkpoint of another plan does not fit
    other = train(folder, "--resume", checkpoint, epochs=101)
    assert other.exit_code == 2
    assert "belongs to another training" in other.stderr
    done = train(folder, "--resume", checkpoint, epochs=100)
    assert done.exit_code == 0, done.output
    assert (folder / "out.safetensors").read_bytes() == undisturbed(count=COUNT, epochs=100)
    assert not checkpoint.exists()


def test_mistakes_name_their_field(folder: Path) -> None:
    wrong = train(folder, epochs=0)
    assert wrong.exit_code == 2
    assert "plan.epochs" in wrong.stderr
    (folder / "labels.json").write_text(json.dumps([3] * COUNT))
    same = train(folder)
    assert same.exit_code == 2
    assert "all training images have the same label (3)" in same.stderr
    assert not (folder / "out.safetensors").exists()
    unreadable = train(folder, "--resume", folder / "nothing")
    assert (unreadable.exit_code, "nothing cannot be read" in unreadable.stderr) == (2, True)
