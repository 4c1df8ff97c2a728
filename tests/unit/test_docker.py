"""The images and the compose file, as far as they can be judged without a Docker engine."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from auditcore.contracts.server_models import TorchServeModel
from auditcore.sources.registry import check_model
from auditcore_service.settings import Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


def script(name: str) -> ModuleType:
    """A script of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docker_{name}", DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = script("lock")
sbom = script("sbom")
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


def test_what_is_copied_into_an_image_reaches_the_build() -> None:
    """`.dockerignore` leaves out everything but what it names."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    files = [*DOCKER.glob("*.Dockerfile"), *DOCKER.glob("debian/*.Dockerfile")]
    copied = {
        source
        for path in files
        for name, arguments in instructions(str(path.relative_to(DOCKER)))
        if name == "COPY" and "--from=" not in arguments
        for source in arguments.split()[:-1]
        if not source.startswith("--")
    }
    assert {"src", "docker/torchserve/health.py"} <= copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == one or source.startswith(f"{one}/") for one in kept), source


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
    assert ports == {
        "gateway": ["127.0.0.1:${AUDIT_PUBLISHED_PORT:-8000}:8000"],
        "worker": None,
        "postgres": None,
        "redis": None,
    }
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
                assert any(f"!{name}" in allowed for name in (source, *map(str, Path(source).parents)))


def locked(name: str) -> set[str]:
    """Names of the packages in an image, from the file that it is installed from."""
    text = (DOCKER / "requirements" / f"{name}.txt").read_text()
    return {lock.normalized(package) for package, _ in lock.pins(text)}


ONLY_LOCKED = """
import importlib.machinery, importlib.metadata, re
locked = {names!r}
tops = importlib.metadata.packages_distributions().items()
absent = {{top for top, of in tops if not locked & {{re.sub('[-_.]+', '-', name).lower() for name in of}}}}
finder = importlib.machinery.PathFinder
original = finder.find_spec
def find_spec(name, path=None, target=None):
    if name.split('.')[0] in absent - {{'auditcore', 'auditcore_service'}}:
        return None
    return original(name, path, target)
finder.find_spec = find_spec
"""
"""Hides every package that is not in an image from a Python that has more.

Installing an image's packages takes a minute; `make containers` runs the images themselves.
"""


def clean_environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return {name: value for name, value in kept.items() if not name.startswith("AUDIT_")} | variables


def imports(image: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the packages of an image."""
    hidden = ONLY_LOCKED.format(names=locked(image))
    return subprocess.run(
        [sys.executable, "-c", hidden + code],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=clean_environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'service'}"),
    )


@pytest.mark.slow
def test_the_gateway_image_has_no_torch_and_answers(tmp_path: Path) -> None:
    assert not {"torch", "captum", "timm"} & locked("gateway")
    clients = (
        "import auditcore.sources.resolving, mlflow.artifacts, huggingface_hub, s3fs, gcsfs, adlfs\n"
        # the dashboard compares audits with the statistics of a policy: numpy and scipy, loaded only then
        "import auditcore_service.gateway.dashboard.two_audits; print('here')"
    )
    done = imports("gateway", clients)
    assert done.stdout == "here\n", done.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = clean_environment(
        PYTHONPATH=f"{ROOT / 'src'}:{ROOT / 'service'}",
        AUDIT_PORT=str(port),
        AUDIT_HOST="127.0.0.1",
        AUDIT_DATA_DIR=str(tmp_path / "data"),
        AUDIT_REDIS_URL="redis://127.0.0.1:9/0",  # no server there: liveness depends on nothing
    )
    (tmp_path / "data").mkdir()
    code = ONLY_LOCKED.format(names=locked("gateway")) + "from auditcore_service.cli import main; main()"
    command = [sys.executable, "-c", code, "gateway"]
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
def test_the_worker_image_computes_and_serves_nothing() -> None:
    code = (
        "import auditcore, auditcore_service.worker.celery_worker, auditcore_service.worker.execution; "
        "auditcore.audit; "
        "from auditcore.contracts.access import AccessRules; from auditcore.contracts.models import TorchvisionModel;"
        "reference = TorchvisionModel(name='resnet18', weights={'uri': 'random:1'}); "
        "print(auditcore.load_classifier(reference, access=AccessRules()).classes)\n"
        "import onnxruntime, onnx2torch, transformers, mlflow.artifacts, s3fs, efficientnet_lite_pytorch; print('here')"
    )
    done = imports("worker", code)
    assert done.stdout.split() == ["1000", "here"], done.stderr
    # MLflow's client brings FastAPI along; nothing that only the gateway needs is there
    assert "prometheus-client" not in locked("worker")


def test_the_worker_for_the_cpu_has_the_same_packages_without_cuda() -> None:
    left_out = locked("worker") - locked("worker-cpu")
    assert locked("worker-cpu") < locked("worker")
    assert all(lock.CUDA.match(name) for name in left_out)
    assert {"nvidia-cublas", "triton"} <= left_out
    assert locked("worker-cpu") > lock.KEPT_ON_CPU


@pytest.mark.parametrize("name", [*lock.LOCKS, "worker-cpu"])
def test_packages_of_images_are_locked_by_hash_and_up_to_date(name: str) -> None:
    assert lock.stale(name) == []
    text = (DOCKER / "requirements" / f"{name}.txt").read_text()
    assert text.count("==") >= len(locked(name)) > 0
    for block in re.split(r"(?m)^(?=[a-z0-9])", text)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    # each builder has an index of their own
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)


def test_a_stale_lock_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (DOCKER / "requirements/gateway.txt").read_text()
    (tmp_path / "docker/requirements").mkdir(parents=True)
    (tmp_path / "docker/requirements/gateway.txt").write_text(re.sub(r"(?m)^anyio==\S+", "anyio==1.0", text))
    (tmp_path / "constraints.txt").write_text((ROOT / "constraints.txt").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(project.replace("fastapi>=", "fastapi>0,>="))
    monkeypatch.setattr(lock, "ROOT", tmp_path)
    monkeypatch.setattr(lock, "FOLDER", tmp_path / "docker/requirements")
    reasons = lock.stale("gateway")
    assert len(reasons) == 2
    assert "other requirements" in reasons[0]
    assert "anyio 1.0" in reasons[1]
    assert lock.stale("worker") == ["docker/requirements/worker.txt is missing"]


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.Dockerfile")), ids=lambda path: path.name)
def test_both_stages_have_a_base_that_can_be_pinned(path: Path) -> None:
    lines = instructions(path.name)
    assert lines[0][0] == "ARG"
    assert lines[0][1].startswith("PYTHON_IMAGE=python:3.1")
    bases = [argument.split()[0] for word, argument in lines if word == "FROM"]
    assert bases == ["${PYTHON_IMAGE}"] * 2


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.Dockerfile")), ids=lambda path: path.name)
def test_an_image_installs_nothing_without_a_hash(path: Path) -> None:
    for word, argument in instructions(path.name):
        if word == "RUN":
            for command in re.findall(r"pip install [^&;]*", argument):
                own = "/wheels/" in command
                # with a variable the operator asks for more, and is told so
                asked = "${MODEL_PACKAGES}" in command or "$TORCH_INDEX" in command
                assert own or asked or "--require-hashes --no-deps" in command


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.Dockerfile")), ids=lambda path: path.name)
def test_an_image_has_labels(path: Path) -> None:
    labels = " ".join(argument for word, argument in instructions(path.name) if word == "LABEL")
    names = {"title", "description", "licenses", "source", "version", "revision", "created"}
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) == names
    assert 'licenses="Apache-2.0"' in labels


@pytest.mark.parametrize("name", SERVICES)
def test_services_have_limits(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert re.fullmatch(r"\$\{AUDIT_[A-Z]+_MEMORY:-\d+g\}", service["mem_limit"])
    assert re.fullmatch(r"\$\{AUDIT_[A-Z]+_CPUS:-\d\}", service["cpus"])
    assert int(re.sub(r"\$\{.*:-(\d+)\}", r"\1", str(service["pids_limit"]))) >= 64
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "20m", "max-file": "5"}}
    assert re.fullmatch(r"\d+s", service["stop_grace_period"])
    for mount in service.get("tmpfs", []):
        assert "size=" in mount


def test_the_role_of_the_service_is_no_superuser(compose: dict[str, Any]) -> None:
    script = "./postgres/service_role.sh:/docker-entrypoint-initdb.d/service_role.sh:ro"
    assert script in compose["services"]["postgres"]["volumes"]
    statements = (DOCKER / "postgres/service_role.sh").read_text()
    assert "CREATE ROLE auditcore LOGIN PASSWORD :'password';" in statements
    assert "SUPERUSER" not in statements
    assert os.access(DOCKER / "postgres/service_role.sh", os.X_OK)


def test_what_is_in_an_image_is_listed_in_valid_cyclonedx() -> None:
    packages = {"python": [["Some_Package", "1.0", "MIT"]], "debian": [["libc6", "2.41", "amd64"]]}
    parts = json.loads(sbom.text_of(sbom.bill("an-image", packages)))["components"]
    assert {part["purl"] for part in parts} == {"pkg:deb/debian/libc6@2.41?arch=amd64", "pkg:pypi/some-package@1.0"}
    bill = sbom.bill("an-image", packages)
    bill.version = "first"
    with pytest.raises(ValueError, match="no valid CycloneDX"):
        sbom.text_of(bill)
