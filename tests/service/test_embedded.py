"""The whole process tree: real queue, real worker, real HTTP, and what happens when parts of it are killed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import redis
from onnx import numpy_helper
from PIL import Image

from auditcore_service.embedded.process_tree import AlreadyRunning, EmbeddedService
from auditcore_service.embedded.redis_server import RedisServer
from auditcore_service.settings import Settings
from auditcore_service.startup import listen
from queues import NO_REDIS, ONE_QUEUE_IN_CI
from reading_graphs import external, reader

REQUEST: dict[str, Any] = {
    "model": {
        "kind": "torchvision",
        "name": "mobilenet_v3_small",
        "weights": {"uri": "random:1"},
        "classes": 5,
        "preprocessing": {"resize": 32, "crop": 32},
    },
    "plan": {
        "explainers": [{"kind": "gradient"}],
        "checks": [{"kind": "deletion", "grid": 10, "repeats": 5}],
    },
}


OTHER_WEIGHTS = {**REQUEST["model"], "weights": {"uri": "random:2"}}
SEVERAL: dict[str, Any] = {
    "models": [{"name": "one", "model": REQUEST["model"]}, {"name": "two", "model": OTHER_WEIGHTS}],
    "plan": REQUEST["plan"],
}


def photo(seed: int) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def submit(client: httpx.Client, images: int, request: dict[str, Any] = REQUEST) -> str:
    files = [("images", (f"{n}.png", photo(n), "image/png")) for n in range(images)]
    batch = client.post("/v1/image-batches", files=files).json()
    body = {**request, "images": {"kind": "batch", "digest": batch["digest"]}}
    audit_id: str = client.post("/v1/audits", json=body).json()["id"]
    return audit_id


def wait_for(client: httpx.Client, audit_id: str, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status: dict[str, Any] = client.get(f"/v1/audits/{audit_id}").json()
        if done(status):
            return status
        time.sleep(0.1)
    raise AssertionError(status)


def ended(status: dict[str, Any]) -> bool:
    return status["state"] in {"succeeded", "failed", "cancelled"}


@pytest.fixture(scope="module", params=ONE_QUEUE_IN_CI)
def service(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[EmbeddedService]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("embedded"),
        queue=request.param,
        redis_url=None,
        port=0,
        lease_s=4.0,
        sweep_s=0.5,
        heartbeat_s=0.2,
        requeue_after_s=5.0,
        shard_images=2,
        threads=1,
        device="cpu",
        # what a busy machine measures may differ from one worker to the next, and scores then differ by rounding
        micro_batch=8,
    )
    with EmbeddedService(settings) as running:
        yield running


@pytest.fixture
def client(service: EmbeddedService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.base_url, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="module")
def untroubled(service: EmbeddedService) -> dict[str, Any]:
    """The report of the request about four images when nothing goes wrong."""
    with httpx.Client(base_url=service.base_url, timeout=30) as opened:
        return report_of(opened, submit(opened, 4))


def report_of(client: httpx.Client, audit_id: str) -> dict[str, Any]:
    assert wait_for(client, audit_id, ended)["state"] == "succeeded"
    report: dict[str, Any] = client.get(f"/v1/audits/{audit_id}/report").json()
    return report


@pytest.mark.slow
def test_kill_9_of_the_worker_in_mid_shard_changes_no_number(service: EmbeddedService, client: httpx.Client) -> None:
    expected = report_of(client, submit(client, 3, SEVERAL))
    audit_id = submit(client, 3, SEVERAL)
    wait_for(client, audit_id, lambda status: 0.4 < status["fraction"] < 0.9)
    (worker,) = service.workers
    assert worker.pid is not None
    pool = psutil.Process(worker.pid).children(recursive=True)
    os.kill(worker.pid, signal.SIGKILL)
    report = report_of(client, audit_id)
    _, alive = psutil.wait_procs(pool, timeout=5)
    assert alive == []
    assert report["results"] == expected["results"]
    assert report["comparisons"] == expected["comparisons"]
    assert len(report["models"]) == 2
    assert report["manifest"]["attempts"] > expected["manifest"]["attempts"]


def await_workers(service: EmbeddedService, count: int) -> None:
    """Wait for the processes: the service answers when the first of them does."""
    deadline = time.monotonic() + 60
    while len({worker.pid for worker in service.workers} - {None}) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.long
@pytest.mark.slow
def test_two_workers_share_an_audit_and_change_no_number(
    service: EmbeddedService, untroubled: dict[str, Any], tmp_path: Path
) -> None:
    settings = service.settings.model_copy(update={"data_dir": tmp_path / "two", "redis_url": None, "workers": 2})
    with (
        EmbeddedService(settings) as both,
        httpx.Client(base_url=both.base_url, timeout=30) as other,
    ):
        await_workers(both, 2)
        assert report_of(other, submit(other, 4))["results"] == untroubled["results"]


@pytest.mark.slow
def test_cancelling_a_running_audit(client: httpx.Client) -> None:
    audit_id = submit(client, 8)
    wait_for(client, audit_id, lambda status: status["state"] == "running")
    client.post(f"/v1/audits/{audit_id}/cancel")
    assert wait_for(client, audit_id, ended)["state"] == "cancelled"


@pytest.mark.slow
def test_kill_9_of_the_process_that_computes_changes_no_number(
    service: EmbeddedService, client: httpx.Client, untroubled: dict[str, Any]
) -> None:
    """As the kernel does when memory runs out. The worker goes on, with a new process."""
    audit_id = submit(client, 4)
    wait_for(client, audit_id, lambda status: 0.01 < status["fraction"] < 0.9)
    (worker,) = service.workers
    assert worker.pid is not None
    starts = worker.starts
    psutil.Process(computing(worker.pid)).kill()
    report = report_of(client, audit_id)
    assert worker.starts == starts
    assert report["results"] == untroubled["results"]
    assert report["manifest"]["attempts"] == untroubled["manifest"]["attempts"] + 1


def computing(worker: int) -> int:
    """The process below a worker that has loaded torch."""
    (found,) = [child.pid for child in psutil.Process(worker).children(recursive=True) if has_torch(child)]
    return found


def has_torch(process: psutil.Process) -> bool:
    try:
        return any("libtorch_cpu" in mapped.path for mapped in process.memory_maps())
    except psutil.AccessDenied:  # a worker, which hides its memory from processes of its user
        return False


@pytest.mark.slow
def test_one_folder_has_one_service(service: EmbeddedService) -> None:
    with pytest.raises(AlreadyRunning, match="AUDIT_DATA_DIR"):
        EmbeddedService(service.settings).start()


SERVE = """
from pathlib import Path
from auditcore_service.embedded.process_tree import run
from auditcore_service.settings import Settings
from auditcore_service.startup import listen
run(Settings(data_dir=Path({folder!r}), port=0), on_ready=lambda url: print(url, flush=True))
"""


def own_environment(queue: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "AUDIT_REDIS_URL"}}
    return kept | {"AUDIT_QUEUE": queue}


def start(folder: Path, queue: str) -> tuple[subprocess.Popen[str], str, list[psutil.Process]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE.format(folder=str(folder))],
        stdout=subprocess.PIPE,
        text=True,
        env=own_environment(queue),
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    # the gateway answers before the worker is up; wait for its process and its pool, so that grandchildren count too
    deadline = time.monotonic() + 60
    expected = 3 if queue == "redis" else 2
    while (
        len(children := psutil.Process(process.pid).children(recursive=True)) < expected and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert len(children) >= expected
    return process, url, children


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGKILL]
)
@pytest.mark.parametrize("queue_kind", ONE_QUEUE_IN_CI)
def test_children_never_outlive_the_service(tmp_path: Path, number: signal.Signals, queue_kind: str) -> None:
    process, url, children = start(tmp_path, queue_kind)
    try:
        assert httpx.get(f"{url}/readyz", timeout=10).json()["status"] == "ok"
        process.send_signal(number)
        code = process.wait(timeout=20)
        assert code == (0 if number != signal.SIGKILL else -signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Without TCP_NODELAY a kept connection answers in 44 ms instead of 3, because head and body are two writes."""

    async def no_delay() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = listen("127.0.0.1", 0)
        port = listener.getsockname()[1]
        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            option = await found
            writer.close()
            return option

    assert asyncio.run(no_delay())


def test_redis_is_private_and_persistent(tmp_path: Path, queue_kind: str) -> None:
    if queue_kind != "redis":
        pytest.skip(NO_REDIS)
    server = RedisServer(tmp_path)
    server.start()
    try:
        path = Path(server.url.removeprefix("unix://"))
        assert path.parent.stat().st_mode & 0o777 == 0o700
        with redis.Redis.from_url(server.url) as queue:
            names = ("port", "appendonly", "maxmemory-policy")
            options = {name: value for option in names for name, value in queue.config_get(option).items()}
    finally:
        server.stop()
    assert options == {"port": "0", "appendonly": "yes", "maxmemory-policy": "noeviction"}


def test_a_redis_with_a_long_path_still_gets_a_short_socket(tmp_path: Path, queue_kind: str) -> None:
    if queue_kind != "redis":
        pytest.skip(NO_REDIS)
    folder = tmp_path / ("deep" * 30)
    server = RedisServer(folder)
    server.start()
    try:
        assert len(server.url) < 108
        assert (folder / "appendonlydir").exists() or any(folder.glob("*.aof"))
    finally:
        server.stop()
    assert not Path(server.url.removeprefix("unix://")).parent.exists()


SERVE_HERE = """
import json, sys
from auditcore_service.embedded.process_tree import run
from auditcore_service.settings import Settings
from auditcore_service.startup import listen
run(Settings(**json.loads(sys.argv[1]), port=0, workers=1), on_ready=lambda url: print(url, flush=True))
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("queue_kind", ONE_QUEUE_IN_CI)
def test_a_worker_computes_in_an_empty_folder_and_still_finds_what_the_operator_named(
    tmp_path: Path, queue_kind: str
) -> None:
    """All paths of the operator are relative here, and a graph asks for a file of the folder that they start from."""
    (tmp_path / ".env").write_text("KEY")
    (tmp_path / "models").mkdir()
    inside = numpy_helper.from_array(np.array([75], np.uint8), "inside")
    for name, tensor in {"good": inside, "bad": external()}.items():
        (tmp_path / "models" / f"{name}.onnx").write_bytes(reader(tensor, "constant").SerializeToString())
    settings = {
        "data_dir": "data",
        "database_url": "sqlite:///service.db",
        "blob_url": "file://blobs",
        "file_roots": ["models"],
        "inspection_wait_s": 60.0,
        "threads": 1,
        "device": "cpu",
    }
    environment = own_environment(queue_kind)
    command = [sys.executable, "-c", SERVE_HERE, json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            answers = {}
            for name in ("good", "bad"):
                uri = (tmp_path / "models" / f"{name}.onnx").as_uri()
                model = {"kind": "onnx", "uri": uri, "preprocessing": {"resize": 32, "crop": 32}}
                answers[name] = httpx.post(f"{url}/v1/models:inspect", json={"model": model}, timeout=90)
            assert answers["good"].json()["found"]["classes"] == 256
            assert answers["bad"].json()["code"] == "unsafe_reference"
            computing = {
                child.pid: Path(child.cwd())
                for child in psutil.Process(process.pid).children(recursive=True)
                if "redis" not in child.name()
            }
            own = [folder for folder in computing.values() if folder.name == "own"]
            (folder,) = set(computing.values()) - set(own)
            # a worker, its pool, and one process that computes
            assert len(computing) >= 3
            assert len(own) == 1
            for one in (folder, *own):
                assert not one.is_relative_to(tmp_path)
                assert one.stat().st_mode & 0o777 == 0o700
            assert list(folder.iterdir()) == []
            process.terminate()
            assert process.wait(timeout=20) == 0
            # even if the worker took too long and was killed
            assert not folder.parent.exists()
        finally:
            process.kill()
    assert {path.name for path in tmp_path.iterdir()} >= {".env", "models", "data", "service.db"}


@pytest.mark.slow
@pytest.mark.parametrize("queue_kind", ONE_QUEUE_IN_CI)
def test_a_shard_that_takes_too_long_is_interrupted_and_the_worker_goes_on(tmp_path: Path, queue_kind: str) -> None:
    settings = Settings(
        data_dir=tmp_path,
        queue=queue_kind,
        redis_url=None,
        port=0,
        shard_limit_s=8.0,
        max_attempts=1,
        fault_wait_s=0.1,
        sweep_s=0.5,
        micro_batch=8,
        threads=1,
        device="cpu",
    )
    too_long = {"kind": "deletion", "grid": 32, "repeats": 100}
    plan = {"explainers": [{"kind": "gradient"}], "checks": [too_long]}
    with EmbeddedService(settings) as running, httpx.Client(base_url=running.base_url, timeout=30) as client:
        status = wait_for(client, submit(client, 1, {**REQUEST, "plan": plan}), ended)
        # its only image is left out, and nothing is left to audit; or leaving it out does not help
        assert status["state"] == "failed"
        assert status["error"]["code"] in {"worker_lost", "no_usable_images"}
        assert wait_for(client, submit(client, 1), ended)["state"] == "succeeded"
        assert [worker.starts for worker in running.workers] == [1]
