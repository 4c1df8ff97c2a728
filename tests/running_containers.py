"""The service as docker/compose.yaml starts it, in real containers."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import skimage
import yaml

from auditcore_service.key_files import create_signing_key

ROOT = Path(__file__).parents[1]
ENGINE = ROOT / "docker/engine"
SERVICES = ("gateway", "worker", "postgres", "redis")
OURS = ("gateway", "worker")
PHOTOS = ("coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png")

IMAGES = {"postgres": "postgres:18-trixie", "redis": "redis:8-trixie"}
"""What compose names, where it can be pulled."""

SETTINGS = {
    # an audit of several shards, so that something is lost when a container is killed
    "AUDIT_SHARD_IMAGES": "1",
    "AUDIT_LEASE_S": "8",
    "AUDIT_SWEEP_S": "1",
    "AUDIT_REQUEUE_AFTER_S": "5",
    # passes of one size give the same bytes
    "AUDIT_MICRO_BATCH": "8",
}


def engine(*arguments: str, check: bool = True, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
    """Run the container engine."""
    done = subprocess.run(
        [ENGINE, *arguments], capture_output=True, text=True, check=False, timeout=timeout_s, cwd=ROOT
    )
    if check and done.returncode:
        msg = f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        raise RuntimeError(msg)
    return done


def is_here(image: str) -> bool:
    return engine("image", "inspect", image, check=False).returncode == 0


def prepare_images() -> dict[str, str]:
    """Build what is missing or was made from other code; the variables of compose that name the images."""
    build = ["gateway", "worker-cpu"]
    variables = {"AUDIT_WORKER_IMAGE": "auditcore-worker-cpu", "AUDIT_WORKER_DEVICE": "cpu"}
    for name, image in IMAGES.items():
        if not is_here(image) and engine("pull", image, check=False).returncode:
            build.append(name)
            variables[f"AUDIT_{name.upper()}_IMAGE"] = f"auditcore-{name}-debian"
    environment = os.environ | {"PYTHON": sys.executable}
    subprocess.run(
        [ROOT / "docker/build-images", "--needed", *build], check=True, env=environment, stdout=sys.stderr, cwd=ROOT
    )
    return variables


class Deployment:
    """Containers of one project of compose."""

    def __init__(self, folder: Path) -> None:
        self.project = f"auditcore-test-{os.getpid()}"
        self.podman = engine("name").stdout.strip() == "podman"
        key = folder / "signing-key.pem"
        create_signing_key(key)
        if os.getuid() == 0:
            os.chown(key, 10001, 10001)
        else:
            key.chmod(0o644)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.variables = prepare_images() | {
            "AUDIT_POSTGRES_PASSWORD": secrets.token_hex(24),
            "AUDIT_REDIS_PASSWORD": secrets.token_hex(24),
            "AUDIT_SIGNING_KEY_FILE": str(key),
            "AUDIT_PUBLISHED_PORT": str(self.port),
            # small, so that a test reaches it
            "AUDIT_GATEWAY_MEMORY": "1g",
            "AUDIT_WORKER_MEMORY": "6g",
        }
        overlay = folder / "compose.test.yaml"
        overlay.write_text(yaml.safe_dump({"services": {name: {"environment": SETTINGS} for name in OURS}}))
        self.files = ["-f", str(ROOT / "docker/compose.yaml"), "-f", str(overlay)]
        self.token = ""

    def compose(self, *arguments: str, timeout_s: float = 600.0) -> None:
        done = subprocess.run(
            [ENGINE, "compose", "-p", self.project, *self.files, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=os.environ | self.variables,
        )
        if done.returncode:
            msg = f"compose {' '.join(arguments)}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            raise RuntimeError(msg)

    def container(self, service: str) -> str:
        """Id of the container of a service."""
        filters = [f"label=com.docker.compose.{key}={value}" for key, value in self._labels(service).items()]
        arguments = [word for text in filters for word in ("--filter", text)]
        found = engine("ps", "--all", "--quiet", *arguments).stdout.split()
        if len(found) != 1:
            msg = f"{len(found)} containers of {service}"
            raise RuntimeError(msg)
        return found[0]

    def _labels(self, service: str) -> dict[str, str]:
        return {"project": self.project, "service": service}

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(engine("inspect", self.container(service)).stdout)[0]
        return found

    def run_in(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, as its user."""
        return engine("exec", self.container(service), *command, check=check)

    def python_in(self, service: str, code: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run_in(service, "python", "-c", code, check=check)

    def healthy(self, service: str) -> bool:
        """Whether the health check of a container passes now."""
        if self.podman:
            return engine("healthcheck", "run", self.container(service), check=False).returncode == 0
        return bool(self.inspect(service)["State"]["Health"]["Status"] == "healthy")

    def wait_until_healthy(self, service: str, timeout_s: float = 180.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.healthy(service):
            if time.monotonic() > deadline:
                done = engine("logs", "--tail", "30", self.container(service), check=False)
                msg = f"{service} is not healthy after {timeout_s} s\n{done.stdout}\n{done.stderr}"
                raise TimeoutError(msg)
            time.sleep(1)

    def client(self) -> httpx.Client:
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
        )

    def submit(self, seed: int = 7) -> str:
        """Submit an audit of the demo model; its path."""
        folder = Path(skimage.__file__).parent / "data"
        files = [("images", (name, (folder / name).read_bytes())) for name in PHOTOS if (folder / name).exists()]
        with self.client() as client:
            batch = client.post("/v1/image-batches", files=files)
            batch.raise_for_status()
            answer = client.post(
                "/v1/audits",
                json={
                    "model": {"kind": "demo"},
                    "images": {"kind": "batch", "digest": batch.json()["digest"]},
                    "plan": {
                        "seed": seed,
                        "explainers": [{"kind": "gradient"}, {"kind": "grad_cam"}],
                        "checks": [{"kind": "deletion", "grid": 7, "repeats": 3}],
                    },
                },
            )
            answer.raise_for_status()
            return str(answer.headers["Location"])

    def state(self, audit: str) -> dict[str, Any]:
        """The audit as the gateway tells it; empty while the gateway or its database is away."""
        try:
            with self.client() as client:
                answer = client.get(audit)
        except httpx.TransportError:
            return {}
        if answer.status_code >= 500:
            return {}
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def wait_for(self, audit: str, states: set[str], timeout_s: float = 240.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            found = self.state(audit)
            if found.get("state") in states:
                return found
            if time.monotonic() > deadline:
                msg = f"{audit} is {found} after {timeout_s} s, not in {sorted(states)}"
                raise TimeoutError(msg)
            time.sleep(0.2)

    def scores(self, audit: str) -> list[tuple[Any, ...]]:
        """Every number of the report of an audit, with what it is about."""
        with self.client() as client:
            report = client.get(f"{audit}/report")
        report.raise_for_status()
        return [
            (row["check"], row["explainer"], row["metric"], row["variant"], row["mean"], tuple(row["per_image"]))
            for row in report.json()["results"]
        ]


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Start everything, make a key, and remove everything at the end."""
    made = Deployment(folder)
    try:
        made.compose("up", "--detach", "--no-build")
        for service in ("postgres", "redis", "gateway", "worker"):
            made.wait_until_healthy(service)
        answer = made.run_in("gateway", "auditcore", "keys", "create", "first", "--role", "admin")
        made.token = answer.stdout.strip().splitlines()[-1].strip()
        yield made
    finally:
        # first by force: what is being started again and again cannot be stopped
        label = f"label=com.docker.compose.project={made.project}"
        for _ in SERVICES:
            # podman refuses to remove a container before those that depend on it
            engine("rm", "--force", *engine("ps", "--all", "--quiet", "--filter", label).stdout.split(), check=False)
        made.compose("down", "--volumes")
