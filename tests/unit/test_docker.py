"""The images and the compose file, as far as they can be judged without a Docker engine."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditcore.contracts.server_models import TorchServeModel
from auditcore.sources.registry import check_model
from auditcore_service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
UV = Path(sys.executable).with_name("uv")
SERVICES = ("gateway", "worker", "postgres", "redis")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Instruction and arguments of a Dockerfile, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (DOCKER / dockerfile).read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def everywhere() -> list[tuple[str, str]]:
    return [line for path in DOCKER.glob("*.Dockerfile") for line in instructions(path.name)]


@pytest.mark.parametrize("name", SERVICES)
def test_services_run_without_privileges(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert set(compose["services"]) == set(SERVICES)
    assert service["user"].split(":")[0] != "0"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


def test_there_is_no_default_secret(compose: dict[str, Any]) -> None:
    """Each password is a variable that compose refuses to leave empty."""
    secrets = 0
    for service in compose["services"].values():
        for key, value in service["environment"].items():
            if "PASSWORD" in key or "@" in value:
                variables = re.findall(r"\$\{([^}]*)\}", value)
                assert len(variables) == 1
                assert ":?" in variables[0]
                secrets += 1
    assert secrets == 6
    assert not any(word in {"ENV", "ARG"} and "PASSWORD" in argument for word, argument in everywhere())


def test_only_the_gateway_signs_and_its_key_has_no_default(compose: dict[str, Any]) -> None:
    assert compose["secrets"] == {"signing_key": {"file": compose["secrets"]["signing_key"]["file"]}}
    assert re.fullmatch(r"\$\{AUDIT_SIGNING_KEY_FILE:\?[^}]+\}", compose["secrets"]["signing_key"]["file"])
    given = {name: service.get("secrets") for name, service in compose["services"].items()}
    assert given == {"gateway": ["signing_key"], "worker": None, "postgres": None, "redis": None}
    assert compose["services"]["gateway"]["environment"]["AUDIT_SIGNING_KEY"] == "/run/secrets/signing_key"
    assert "AUDIT_SIGNING_KEY" not in compose["services"]["worker"]["environment"]


def test_a_gateway_that_others_can_reach_asks_who_they_are(compose: dict[str, Any]) -> None:
    """The image listens at every address, however it is started."""
    settings = dict(
        pair.split("=") for word, line in instructions("gateway.Dockerfile") if word == "ENV" for pair in line.split()
    )
    assert settings["AUDIT_HOST"] == "0.0.0.0"  # noqa: S104 - the address of a container
    assert settings["AUDIT_AUTHENTICATION"] == "required"
    assert compose["services"]["gateway"]["environment"]["AUDIT_AUTHENTICATION"] == "required"


def test_only_the_gateway_is_reachable_and_only_from_here(compose: dict[str, Any]) -> None:
    ports = {name: service.get("ports") for name, service in compose["services"].items()}
    assert ports == {"gateway": ["127.0.0.1:8000:8000"], "worker": None, "postgres": None, "redis": None}
    assert compose["networks"]["back"] == {"internal": True}
    assert compose["services"]["worker"]["networks"] == ["back"]


def test_the_queue_never_evicts(compose: dict[str, Any]) -> None:
    command = compose["services"]["redis"]["command"][-1]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_services_wait_for_what_they_need_and_are_watched(compose: dict[str, Any]) -> None:
    for name in ("gateway", "worker"):
        needs = compose["services"][name]["depends_on"]
        assert needs == {"postgres": {"condition": "service_healthy"}, "redis": {"condition": "service_healthy"}}
        assert any(word == "HEALTHCHECK" for word, _ in instructions(f"{name}.Dockerfile"))
    for name in ("postgres", "redis"):
        assert compose["services"][name]["healthcheck"]["test"]


def test_settings_in_compose_are_settings(compose: dict[str, Any]) -> None:
    known = {f"AUDIT_{name.upper()}" for name in Settings.model_fields}
    services = [compose["services"]["gateway"], compose["services"]["worker"]]
    for name in ("compose.gpu.yaml", "compose.torchserve.yaml"):
        overlay = yaml.safe_load((DOCKER / name).read_text())["services"]
        services.extend(overlay[name] for name in ("gateway", "worker") if name in overlay)
    assert len(services) == 5
    for service in services:
        assert set(service["environment"]) <= known


def test_torchserve_next_to_the_service_can_be_reached_but_reaches_nothing() -> None:
    overlay = yaml.safe_load((DOCKER / "compose.torchserve.yaml").read_text())
    served = overlay["services"]["torchserve"]
    assert served["read_only"] is True
    assert (served["user"], served["cap_drop"], served["networks"]) == ("10001:10001", ["ALL"], ["models"])
    assert "ports" not in served
    assert overlay["networks"] == {"models": {"internal": True}}
    for name in ("gateway", "worker"):
        service = overlay["services"][name]
        assert service["networks"] == ["models"]
        environment = {key.removeprefix("AUDIT_").lower(): json.loads(v) for key, v in service["environment"].items()}
        access = Settings(**environment).access
        # the reference that the file's own comment gives
        comment = " ".join(line.lstrip("# ") for line in (DOCKER / "compose.torchserve.yaml").read_text().splitlines())
        reference = re.search(r'\{"kind": "torchserve".*?\}', comment)
        assert reference is not None
        check_model(TorchServeModel.model_validate_json(reference[0]), access)


@pytest.mark.parametrize("dockerfile", ["gateway.Dockerfile", "worker.Dockerfile"])
def test_images_run_as_a_user_without_rights_and_copy_what_exists(dockerfile: str) -> None:
    lines = instructions(dockerfile)
    last_stage = lines[max(at for at, (word, _) in enumerate(lines) if word == "FROM") :]
    users = [argument for word, argument in last_stage if word == "USER"]
    assert users == ["10001:10001"]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for word, argument in lines:
        if word == "COPY" and not argument.startswith("--from"):
            for source in argument.split()[:-1]:
                assert (ROOT / source).exists()
                assert f"!{source}" in allowed


def install_steps(dockerfile: str, folder: Path) -> Path:
    """Run the build stage of a Dockerfile below `folder`, word by word; the Python of the environment it makes."""
    lines = instructions(dockerfile)
    stage = lines[: [word for word, _ in lines].index("FROM", 1)]
    variables = dict(shlex.split(argument)[0].split("=", 1) for word, argument in stage if word == "ARG")
    steps = [argument for word, argument in stage if word == "RUN" and not argument.startswith("pip install")]
    assert len(steps) == 2
    for step in steps:
        # --no-cache keeps an image small; here it would only fetch again what this machine has. Compiling 17000 files
        # speeds up later starts, and there are none
        command = step.replace("--no-cache ", "").replace("--compile-bytecode ", "")
        command = command.replace("/wheels", f"{folder}/wheels").replace("/app", f"{folder}/app")
        path = f"{UV.parent}:{os.environ['PATH']}"
        subprocess.run(["sh", "-euc", command], cwd=ROOT, check=True, env=clean_environment(PATH=path, **variables))
    return folder / "app/bin/python"


def clean_environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return {name: value for name, value in kept.items() if not name.startswith("AUDIT_")} | variables


def imports(python: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, cwd="/", env=clean_environment()
    )


@pytest.mark.slow
def test_the_gateway_image_has_no_torch_and_answers(tmp_path: Path) -> None:
    python = install_steps("gateway.Dockerfile", tmp_path)
    typed = {marker.parent.name for marker in python.parents[1].glob("lib/*/site-packages/auditcore*/py.typed")}
    assert typed == {"auditcore", "auditcore_service"}
    for absent in ("torch", "numpy", "captum", "timm"):
        assert "ModuleNotFoundError" in imports(python, f"import {absent}").stderr
    clients = "import auditcore.sources.resolving, mlflow.artifacts, huggingface_hub, s3fs, gcsfs, adlfs; print('here')"
    done = imports(python, clients)
    assert done.stdout == "here\n", done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = clean_environment(
        AUDIT_PORT=str(port),
        AUDIT_HOST="127.0.0.1",
        AUDIT_DATA_DIR=str(tmp_path / "data"),
        AUDIT_REDIS_URL="redis://127.0.0.1:9/0",  # no server there: liveness depends on nothing
    )
    (tmp_path / "data").mkdir()
    command = [python.with_name("auditcore"), "gateway"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as gateway:
        try:
            assert answer(f"http://127.0.0.1:{port}/livez", gateway) == 200
            assert answer(f"http://127.0.0.1:{port}/v1/catalogue", gateway) == 200
        finally:
            gateway.send_signal(signal.SIGTERM)
            gateway.communicate(timeout=20)


def answer(url: str, process: subprocess.Popen[str]) -> int:
    """Status of an answer, as soon as there is one."""
    # nothing is compiled here, and other tests run beside this one
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - our own server
                return int(response.status)
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"{url} does not answer")


@pytest.mark.slow
def test_the_worker_image_computes_and_serves_nothing(tmp_path: Path) -> None:
    python = install_steps("worker.Dockerfile", tmp_path)
    code = (
        "import auditcore, auditcore_service.worker.celery_worker, auditcore_service.worker.execution; "
        "auditcore.audit; "
        "from auditcore.contracts.access import AccessRules; from auditcore.contracts.models import TorchvisionModel;"
        "reference = TorchvisionModel(name='resnet18', weights={'uri': 'random:1'}); "
        "print(auditcore.load_classifier(reference, access=AccessRules()).classes)"
    )
    done = imports(python, code)
    assert done.stdout.strip() == "1000", done.stderr
    formats = imports(python, "import onnxruntime, onnx2torch, transformers, mlflow.artifacts, s3fs; print('here')")
    assert formats.stdout == "here\n", formats.stderr
    # MLflow's client brings FastAPI along; nothing that only the gateway needs is there
    assert "ModuleNotFoundError" in imports(python, "import prometheus_client").stderr
