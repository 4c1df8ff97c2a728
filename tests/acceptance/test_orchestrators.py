"""The operator for Airflow and the component for Kubeflow, run by Airflow and by kfp themselves.

Each has an environment of its own, which `make integrations` builds; without it the tests are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import foreign_servers
import pipeline_audits

pytestmark = [pytest.mark.long, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
COMPONENT = ROOT / "integrations" / "kubeflow" / "auditcore_component.yaml"
SCRIPTS = ROOT / "tests" / "foreign"
PINNED = re.compile(r"kfp==[\d.]+|kfp-[\d.]+")
"""The version of kfp that compiled a component."""


@dataclass(frozen=True)
class Place:
    """A service and what pipelines audit with it."""

    client: httpx.Client
    stored: Path
    photos: Path

    def request(self, folder: Path, verdict: str, *, with_images: bool = False) -> Path:
        """A request file; its images are uploaded for a program that takes only whole requests."""
        document = pipeline_audits.document(self.stored, verdict)
        if with_images:
            photos = [(one.name, one.read_bytes()) for one in sorted(self.photos.iterdir())]
            answer = self.client.post("/v1/image-batches", files=[("images", one) for one in photos])
            document["images"] = {"kind": "batch", "digest": answer.json()["digest"]}
        path = folder / "request.json"
        path.write_text(json.dumps(document))
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("service")
    photos = pipeline_audits.write_photos(folder / "photos")
    with pipeline_audits.digits_service(folder) as client:
        yield Place(client, folder, photos)


def installed(name: str) -> Path:
    """Python of an environment that `make integrations` has built."""
    if not foreign_servers.is_built(name):
        pytest.skip(f"no environment with {name}; `make integrations` builds it")
    return foreign_servers.environment(name, with_project=True)


@dataclass(frozen=True)
class Airflow:
    """A real Airflow with a database of its own."""

    python: Path
    home: Path

    @property
    def variables(self) -> dict[str, str]:
        """Settings of this Airflow."""
        return {"AIRFLOW_HOME": str(self.home), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}

    def run(self, place: Place, request: Path, **arguments: object) -> dict[str, Any]:
        """What the script with the DAG has printed; Airflow reads the DAG from its own folder."""
        dags = self.home / "dags"
        dags.mkdir(exist_ok=True)
        script = Path(shutil.copy(SCRIPTS / "airflow_dag.py", dags))
        given = json.dumps({"request": str(request), "images": [str(place.photos)], **arguments})
        variables = {"AUDIT_URL": str(place.client.base_url), "OPERATOR_ARGUMENTS": given}
        return _result([self.python, script], self.variables | variables)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    python = installed("airflow")
    found = Airflow(python, tmp_path_factory.mktemp("airflow"))
    environment = os.environ | found.variables
    subprocess.run([python, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True)
    return found


def _result(command: list[Any], variables: dict[str, str]) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, check=False, text=True)
    lines = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    return {**json.loads(lines[-1]), "log": done.stdout + done.stderr}


@pytest.mark.parametrize(
    ("verdict", "arguments", "state"),
    [
        ("pass", {}, "success"),
        ("fail", {}, "failed"),
        ("inconclusive", {}, "failed"),
        ("inconclusive", {"fail_on": ["fail"]}, "success"),
        ("fail", {"deferrable": False}, "failed"),
        ("pass", {"deferrable": False}, "success"),
        ("error", {}, "failed"),
    ],
)
def test_a_task_of_airflow_ends_by_the_verdict(
    place: Place, airflow: Airflow, tmp_path: Path, verdict: str, arguments: dict[str, Any], state: str
) -> None:
    found = airflow.run(place, place.request(tmp_path, verdict), **arguments)
    assert found["state"] == state
    assert place.client.get(f"/v1/audits/{found['audit_id']}").json()["id"] == found["audit_id"]
    if state == "success":
        url = f"{str(place.client.base_url).rstrip('/')}/v1/audits/{found['audit_id']}"
        assert found["result"] == {"audit_id": found["audit_id"], "verdict": verdict, "url": url}
    else:
        assert found["result"] is None


def test_a_task_that_is_ended_takes_its_audit_along(place: Place, airflow: Airflow, tmp_path: Path) -> None:
    found = airflow.run(place, place.request(tmp_path, "pass"), kill=True)
    assert found["state"] in {"cancelling", "cancelled"}


@pytest.mark.parametrize(("verdict", "state"), [("pass", "succeeded"), ("fail", "failed")])
def test_a_step_of_kubeflow_ends_by_the_verdict(place: Place, tmp_path: Path, verdict: str, state: str) -> None:
    python = installed("kubeflow")
    request = place.request(tmp_path, verdict, with_images=True)
    command = [python, SCRIPTS / "kubeflow_pipeline.py", "run", request, place.client.base_url, tmp_path / "root"]
    # kfp starts whatever python3 is the first
    found = _result(command, {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"})
    assert found["state"] == state, found["log"]
    if verdict == "fail":
        assert "the verdict is fail" in found["log"]
    if verdict == "pass":
        assert found["verdict"] == found["report"] == "pass"
        assert found["metrics"]["deletion/inter_model_deletion/gradient"] > 0.001
        assert found["page"].lower().startswith("<!doctype html")


def test_the_compiled_component_is_current(tmp_path: Path) -> None:
    python = installed("kubeflow")
    path = tmp_path / "component.yaml"
    subprocess.run([python, SCRIPTS / "kubeflow_pipeline.py", "compile", path], check=True)
    assert PINNED.sub("kfp", path.read_text()) == PINNED.sub("kfp", COMPONENT.read_text())
