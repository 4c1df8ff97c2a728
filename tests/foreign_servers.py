"""Real servers of other projects, each in an environment of its own, since they need other versions of what we need."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import torch

import digits
from torchserve_server import free_ports

FOREIGN = Path(__file__).parent / "foreign"
ENVIRONMENTS = Path(__file__).parents[1] / ".venv-foreign"
START_S = 120.0


def is_built(name: str) -> bool:
    """Whether there is an environment with the packages that `tests/foreign/NAME.txt` names now."""
    stamp = ENVIRONMENTS / name / ".installed"
    return stamp.exists() and stamp.read_text() == (FOREIGN / f"{name}.txt").read_text()


def environment(name: str, *, with_project: bool = False) -> Path:
    """Python of an environment with the packages of `tests/foreign/NAME.txt`; built once.

    Args:
        name: Name of the file.
        with_project: Whether this project is installed too, as clients have it.
    """
    requirements = FOREIGN / f"{name}.txt"
    folder = ENVIRONMENTS / name
    stamp = folder / ".installed"
    python = folder / "bin" / "python"
    if not is_built(name):
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], check=True)
        command = [uv, "pip", "install", "--quiet", "--python", str(python), "-r", str(requirements)]
        if with_project:
            command += ["-e", f"{ENVIRONMENTS.parent}[client]"]
        subprocess.run(command, check=True)
        stamp.write_text(requirements.read_text())
    return python


def write_onnx(path: Path, network: torch.nn.Module | None = None) -> Path:
    """The digits network as an ONNX graph with a free batch size."""
    import warnings  # noqa: PLC0415 - only here

    with warnings.catch_warnings():
        # the exporter that needs no further package is deprecated
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network or digits.trained(),
            (torch.zeros(2, 3, digits.SIDE, digits.SIDE),),
            str(path),
            input_names=["images"],
            output_names=["scores"],
            dynamic_axes={"images": {0: "n"}, "scores": {0: "n"}},
            dynamo=False,
        )
    return path


@contextmanager
def running(command: Sequence[str], folder: Path, ready: Sequence[str], **variables: str) -> Iterator[None]:
    """A server as a process group of its own, once all URLs of `ready` answer; killed at the end."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        waiting = list(ready)
        while waiting:
            assert process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            try:
                if httpx.get(waiting[0]).is_success:
                    waiting.pop(0)
                    continue
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def mlserver(folder: Path, models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """MLServer with models by folder; each has `uri`, perhaps `name`, `version` and the runtime's own settings."""
    python = environment("mlserver")
    http, grpc, metrics = free_ports(3)
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    ready = []
    for place, model in models.items():
        extra = {key: value for key, value in model.items() if key not in {"name", "uri", "version"}}
        parameters = {"uri": str(model["uri"]), "version": model.get("version"), "extra": extra}
        (folder / place).mkdir()
        name = model.get("name", place)
        (folder / place / "model-settings.json").write_text(
            json.dumps({"name": name, "implementation": "mlserver_model.OnnxModel", "parameters": parameters})
        )
        ready.append(f"http://127.0.0.1:{http}/v2/models/{name}/ready")
    command = [str(python.with_name("mlserver")), "start", str(folder)]
    with running(command, folder, ready, PYTHONPATH=str(FOREIGN)):
        yield f"http://127.0.0.1:{http}"


@contextmanager
def kserve(folder: Path, graph: Path) -> Iterator[str]:
    """KServe's Python server with one model, `digits`."""
    python = environment("kserve")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [str(python), str(FOREIGN / "kserve_model.py"), str(graph), str(port)]
    with running(command, folder, [f"{url}/v2/models/digits/ready"]):
        yield url


@contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """MLflow's tracking server with a registry, artifacts kept by the server below `folder / "artifacts"`."""
    python = environment("mlflow")
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    command = [str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.sqlite"]
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    with running([*command, *store, *artifacts], folder, [f"{url}/health"], MLFLOW_DISABLE_TELEMETRY="true"):
        yield url
