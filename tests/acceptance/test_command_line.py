"""The commands as a pipeline uses them: a real service, real files, exit codes."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

COMMAND = [sys.executable, "-c", "from auditcore_service.cli import main; main()"]
MODEL = {
    "kind": "torchvision",
    "name": "resnet18",
    "weights": {"uri": "random:1"},
    "classes": 4,
    "preprocessing": {"resize": 32, "crop": 32},
}
PLAN = {
    "seed": 3,
    "explainers": [{"kind": "gradient"}, {"kind": "random"}],
    "checks": [
        {"kind": "sweep", "augmentations": [{"kind": "brightness"}], "levels": 3, "top_k": 100},
        {"kind": "deletion", "grid": 4, "repeats": 2},
    ],
}
REQUEST = {"model": MODEL, "plan": PLAN}

# `service/test_cli.py` has the same commands and exit statuses in this process
pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _fixed_size() -> Iterator[None]:
    # what a busy machine measures may differ from one process to the next, and scores then differ by rounding
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUDIT_MICRO_BATCH", "8")
        yield


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`auditcore serve`; its address. At the end it must have gone in order."""
    data = tmp_path_factory.mktemp("data")
    with (
        (data / "service.log").open("wb") as log,
        subprocess.Popen(
            [*COMMAND, "serve", "--port", "0", "--data", str(data / "service")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        ready = re.fullmatch(r"Listening on (http://\S+)\n", process.stdout.readline())
        assert ready, (data / "service.log").read_text()
        try:
            yield ready[1]
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(30)
    assert status == 0


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=180, cwd="/"
    )


def write(folder: Path, request: dict[str, Any]) -> Path:
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    return path


def submit(service: str, folder: Path, request: dict[str, Any], photos: Path) -> subprocess.CompletedProcess[str]:
    files = ("--out", folder / "http.json", "--html", folder / "http.html")
    return run("submit", write(folder, request), "--url", service, "--images", photos, "--wait", *files)


def test_a_service_and_a_process_give_the_same_report(service: str, photos: Path, tmp_path: Path) -> None:
    over_http = submit(service, tmp_path, REQUEST, photos)
    assert over_http.returncode == 0, over_http.stderr
    assert "verdict: not_evaluated" in over_http.stdout
    assert "excluded: bad.png" in over_http.stdout
    files = ("--out", tmp_path / "here.json", "--html", tmp_path / "here.html")
    here = run("audit", tmp_path / "request.json", "--images", photos, *files)
    assert here.returncode == 0, here.stderr
    served, computed = (json.loads((tmp_path / name).read_text()) for name in ("http.json", "here.json"))
    assert served["images"] == computed["images"]
    assert served["model"] == computed["model"]
    assert served["plan"] == computed["plan"]
    assert served["manifest"]["request_digest"] == computed["manifest"]["request_digest"]
    assert [(one["image"], one["explainer"]) for one in served["artifacts"]] == [
        (one["image"], one["explainer"]) for one in computed["artifacts"]
    ]
    for page in ("http.html", "here.html"):
        assert (tmp_path / page).read_text().count('<img src="data:image/png;base64,') == 3 * 3
    assert len(served["results"]) == len(computed["results"]) > 10
    for a, b in zip(served["results"], computed["results"], strict=True):
        assert (a["check"], a["explainer"], a["metric"], a["variant"]) == (
            b["check"],
            b["explainer"],
            b["metric"],
            b["variant"],
        )
        for left, right in zip(a["per_image"], b["per_image"], strict=True):
            assert left == right or left == pytest.approx(right, abs=1e-4)


def test_the_verdict_fail_exits_with_1(service: str, photos: Path, tmp_path: Path) -> None:
    policy = [{"check": "deletion", "explainer": "gradient", "metric": "lerf_auc", "at_least": 1, "statistic": "mean"}]
    done = submit(service, tmp_path, REQUEST | {"policy": policy}, photos)
    assert "verdict: fail" in done.stdout, done.stderr
    assert done.returncode == 1


def test_a_refused_request_names_every_mistake(service: str, photos: Path, tmp_path: Path) -> None:
    done = submit(service, tmp_path, REQUEST | {"plan": PLAN | {"seed": -1, "seeed": 1}}, photos)
    assert done.returncode == 2
    assert "#/plan/seed:" in done.stderr
    assert "#/plan/seeed:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_audit_exits_with_2_and_the_reason(service: str, photos: Path, tmp_path: Path) -> None:
    done = submit(service, tmp_path, REQUEST, photos / "bad.png")
    assert done.returncode == 2
    assert "no_usable_images" in done.stderr
    assert not (tmp_path / "http.json").exists()
    assert not (tmp_path / "http.html").exists()


def test_without_wait_only_the_id_is_printed(service: str, photos: Path, tmp_path: Path) -> None:
    done = run("submit", write(tmp_path, REQUEST), "--url", service, "--images", photos, "--verbose")
    assert done.returncode == 0
    assert re.fullmatch(r"[0-9a-f-]{36}\n", done.stdout)
    assert f"{service}/v1/audits" in done.stderr
    assert "$ curl -F images=@" in done.stderr
