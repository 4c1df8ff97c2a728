"""The process that computes: what code of models may do in it, and how it ends. Everything is real."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from pydantic import SecretStr

import digits
import foreign_servers
from auditcore.contracts.access import AccessRules
from auditcore.contracts.canonical_json import sha256
from auditcore.contracts.inspection import Inspection, InspectionRequest
from auditcore.contracts.presets import resolve_plan
from auditcore.contracts.request import AuditRequest
from auditcore.contracts.shards import ShardResult
from auditcore.errors import AuditCancelled, InputError, ModelNotLoadable
from auditcore.models.archive_writing import write_archive
from auditcore.orchestration.in_memory_storage import InMemoryStorage
from auditcore.orchestration.sharding import ShardRange
from auditcore.sources.fetching import BlobReader
from auditcore_service.settings import Settings
from auditcore_service.worker.compute_process import ComputeProcess
from auditcore_service.worker.computer import AuditTask, ComputedShard, ComputerDied
from auditcore_service.worker.in_process_computer import InProcessComputer
from auditcore_service.worker.sandbox.enforcement import what_is_missing

SECRET = "postgresql://auditcore:very-secret@database/auditcore"  # noqa: S105 - no password of anything
HOSTILE = ("attempt", "sleeping", "dying_when_loaded")
PREPROCESSING = digits.PREPROCESSING.model_dump(mode="json")

needs_kernel = pytest.mark.skipif(what_is_missing() is not None, reason=f"this kernel lacks {what_is_missing()}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("computing")
    (folder / "data").mkdir()
    (folder / "data" / "auditcore.db").write_text("rows of a database")
    (folder / "data" / "signing-key.pem").write_text("a private key")
    (folder / "outside.txt").write_text("not for models")
    (folder / "roots").mkdir()
    write_models(folder / "roots")
    (folder / "roots" / "service").mkdir()
    (folder / "roots" / "service" / "auditcore.db").write_text("rows of another database")
    return folder


def write_models(folder: Path) -> None:
    """The digits as files of every kind that runs code or could."""
    weights = digits.write_weights(folder)
    foreign_servers.write_onnx(folder / "digits.onnx")
    with warnings.catch_warnings():
        # PyTorch has replaced TorchScript, and teams still have programs of it
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.script(digits.trained()).save(folder / "digits.torchscript")
    access = AccessRules(file_roots=(folder,), factories=("digits:build",))
    model = digits.reference(weights)
    write_archive(folder / "digits.mar", name="digits", version="1.0", model=model, access=access)


def settings_of(folder: Path, **changes: Any) -> Settings:
    return Settings(
        data_dir=folder / "data",
        queue="database",
        file_roots=(folder / "roots",),
        token_roots=(folder / "data",),
        server_prefixes=("http://127.0.0.1:9/",),
        factories=(
            "digits:build",
            *(f"hostile_models:{name}" for name in ("attempt", "sleeping", "dying_when_loaded")),
        ),
        code_digests=tuple(sha256(path.read_bytes()) for path in (folder / "roots").glob("*.torchscript")),
        micro_batch=4,
        threads=torch.get_num_threads(),
        **changes,
    )


@pytest.fixture(scope="module")
def computer(folder: Path) -> Iterator[ComputeProcess]:
    before = dict(os.environ)
    os.environ |= {"AUDIT_DATABASE_URL": SECRET, "AUDIT_REDIS_URL": "redis://:secret@queue/0"}
    os.environ["AWS_SECRET_ACCESS_KEY"] = "secret"  # noqa: S105 - no secret of anything
    opened = ComputeProcess(
        settings_of(folder, database_url=SecretStr(f"sqlite:///{folder}/roots/service/auditcore.db"))
    )
    opened.start()
    yield opened
    opened.close()
    os.environ.clear()
    os.environ.update(before)


def inspected(computer: ComputeProcess, target: str, *args: str | float) -> Inspection:
    model = {
        "kind": "factory",
        "target": target,
        "args": list(args),
        "weights": {"uri": "random:1"},
        "preprocessing": PREPROCESSING,
    }
    return looked_at(computer, model, _no_blobs)


def looked_at(computer: ComputeProcess, model: dict[str, Any], blobs: BlobReader) -> Inspection:
    request = InspectionRequest.model_validate({"model": model, "plan": {"preset": "quick"}})
    return computer.inspect(request, request.model, purpose="test", tenant="default", blobs=blobs)


def _no_blobs(digest: str) -> bytes:
    raise LookupError(digest)


def tried(computer: ComputeProcess, *args: str | int) -> str:
    """What became of an attempt of a model."""
    with pytest.raises(ModelNotLoadable) as caught:
        inspected(computer, "hostile_models:attempt", *args)
    return caught.value.message.partition("RuntimeError: ")[2]


def audit_of(folder: Path, explainer: dict[str, Any], images: int = 3) -> AuditTask:
    weights = next((folder / "roots").glob("*.safetensors"))
    request = AuditRequest.model_validate(
        {
            "model": digits.reference(weights).model_dump(mode="json"),
            "images": {"kind": "batch", "digest": f"sha256:{'0' * 64}"},
            "plan": {"explainers": [explainer], "checks": [{"kind": "deletion", "grid": 2, "repeats": 1}]},
        }
    )
    storage = InMemoryStorage(digits.encoded(images))
    return AuditTask(
        f"an-audit-of-{explainer['kind']}", "default", request, resolve_plan(request.plan), images, storage, _no_blobs
    )


def run(
    computer: ComputeProcess | InProcessComputer, audit: AuditTask, progress: Callable[[float], None] = lambda _: None
) -> ComputedShard:
    return computer.run_shard(audit, ShardRange("compute", 0, 0, audit.images), progress=progress, enough=lambda: False)


def without_times(result: ShardResult) -> str:
    return result.model_copy(update={"cost": None, "preparation_seconds": 0.0, "calibration": None}).model_dump_json()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_it_has_neither_credentials_nor_the_folder_of_its_worker(computer: ComputeProcess) -> None:
    names = tried(computer, "environment")
    assert "'PATH'" in names
    assert not any(word in names for word in ("AUDIT_", "AWS_", "REDIS", "DATABASE"))
    said = tried(computer, "folder")
    assert "/own'" in said
    assert str(Path.cwd()) not in said


@needs_kernel
def test_the_kernel_refuses_what_computing_does_not_need(computer: ComputeProcess, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(str(folder / "redis.sock"))
        local.listen()
        attempts: list[tuple[str | int, ...]] = [
            ("read", str(folder / "data/auditcore.db")),
            ("read", str(folder / "data/signing-key.pem")),
            ("read", str(folder / "outside.txt")),
            ("read", str(folder / "roots/service/auditcore.db")),
            ("read", "/etc/shadow"),
            ("read", "/proc/PARENT/environ"),
            ("read", "/proc/PARENT/mem"),
            ("read", "/proc/1/environ"),
            ("shell", str(folder / "outside.txt")),
            ("list", str(folder)),
            ("write", str(folder / "outside.txt")),
            ("write", str(folder / "roots/new")),
            ("write", "/var/auditcore-written-by-a-model"),
            ("connect", "127.0.0.1", server.getsockname()[1]),
            ("connect", str(folder / "redis.sock"), 0),
            ("ptrace",),
            ("kill",),
            *(("call", str(number)) for number in (250, 321, 425, 272, 101, 165)),
        ]
        answers = {attempt: tried(computer, *attempt) for attempt in attempts}
    assert {attempt: said for attempt, said in answers.items() if not said.startswith("refused: PermissionError")} == {}
    # it may do what it needs
    assert "done: " in tried(computer, "write", "note.txt")
    assert "service" in tried(computer, "list", str(folder / "roots"))
    assert "done: " in tried(computer, "read", str(next((folder / "roots").glob("*.safetensors"))))


@pytest.mark.parametrize("kind", ["onnx", "black_box", "torchscript", "mar", "timm", "uploaded"])
def test_every_kind_of_model_is_loaded_in_it(kind: str, computer: ComputeProcess, folder: Path) -> None:
    roots = folder / "roots"
    weights = next(roots.glob("*.safetensors")).read_bytes()

    def uploaded(digest: str) -> bytes:
        assert digest == sha256(weights)
        return weights

    graph = {"kind": "onnx", "uri": (roots / "digits.onnx").as_uri(), "preprocessing": PREPROCESSING}
    program = roots / "digits.torchscript"
    models: dict[str, dict[str, Any]] = {
        "onnx": graph,
        "black_box": {**graph, "gradients": "never"},
        "torchscript": {
            "kind": "torchscript",
            "uri": program.as_uri(),
            "sha256": sha256(program.read_bytes()),
            "preprocessing": PREPROCESSING,
        },
        "mar": {"kind": "mar", "uri": (roots / "digits.mar").as_uri()},
        "timm": {
            "kind": "timm",
            "name": "test_resnet",
            "classes": 10,
            "weights": {"uri": "random:1"},
            "preprocessing": {"resize": 32, "crop": 32},
        },
        "uploaded": {
            "kind": "factory",
            "target": "digits:build",
            "weights": {"uri": f"blob:{sha256(weights)}"},
            "preprocessing": PREPROCESSING,
        },
    }
    found = looked_at(computer, models[kind], uploaded).found
    assert found is not None
    assert found.classes == 10


def test_a_shard_has_the_same_result_as_in_this_process(computer: ComputeProcess, folder: Path) -> None:
    audit = audit_of(folder, {"kind": "gradient"})
    shares: list[float] = []
    apart = run(computer, audit, shares.append)
    here = run(InProcessComputer(settings_of(folder)), audit)
    assert without_times(apart.result) == without_times(here.result)
    assert apart.stop == 3
    assert shares[-1] == 1.0 or shares


def test_an_audit_that_is_cancelled_ends_and_the_process_stays(computer: ComputeProcess, folder: Path) -> None:
    inspected(computer, "digits:build")
    before = computer.pid

    def progress(_share: float) -> None:
        raise AuditCancelled

    with pytest.raises(AuditCancelled):
        run(computer, audit_of(folder, {"kind": "smoothgrad", "samples": 50}, images=40), progress)
    inspected(computer, "digits:build")
    assert computer.pid == before


def test_a_failure_of_storage_is_raised_as_it_is(computer: ComputeProcess, folder: Path) -> None:
    audit = audit_of(folder, {"kind": "gradient"})

    class Away(InMemoryStorage):
        def read_images(self, *_: object, **__: object) -> Any:
            raise ConnectionError("the database is away")  # noqa: EM101, TRY003 - a test

    broken = AuditTask(audit.id, audit.tenant, audit.request, audit.plan, audit.images, Away([]), _no_blobs)
    with pytest.raises(ConnectionError, match="away"):
        run(computer, broken)


def test_a_process_that_dies_is_known_to_have_died(computer: ComputeProcess, folder: Path) -> None:
    """While images were computed, or before; the folder goes with it, and the next order has a new process."""
    inspected(computer, "digits:build")
    own = psutil.Process(int(computer.pid or 0)).cwd()

    def progress(share: float) -> None:
        if share > 0:
            psutil.Process(int(computer.pid or 0)).kill()

    with pytest.raises(ComputerDied, match="SIGKILL while it computed images") as caught:
        run(computer, audit_of(folder, {"kind": "smoothgrad", "samples": 50}, images=40), progress)
    assert (caught.value.cause, caught.value.loading) == ("killed", False)
    deadline = time.monotonic() + 10
    while Path(own).parent.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(own).parent.exists()
    with pytest.raises(ComputerDied, match="exit code 7 while it loaded the model") as caught:
        inspected(computer, "hostile_models:dying_when_loaded")
    assert (caught.value.cause, caught.value.loading) == ("killed", True)


def test_what_hangs_is_ended_and_is_not_blamed_for_what_is_not_known(folder: Path) -> None:
    """Code that catches everything cannot catch this; another thread can end it at once."""
    hanging = ComputeProcess(settings_of(folder, shard_limit_s=3.0))
    hanging.start()
    with pytest.raises(ComputerDied, match=r"took more than 3 s .* before it came to the first image") as caught:
        inspected(hanging, "hostile_models:sleeping", 1000)
    assert not isinstance(caught.value, InputError)
    assert (caught.value.cause, caught.value.loading) == ("time_limit", True)
    closing = threading.Timer(2.0, hanging.close)
    closing.start()
    with pytest.raises(ComputerDied):
        inspected(hanging, "hostile_models:sleeping", 1000)
    closing.join()
    with pytest.raises(ComputerDied, match="about to end"):
        inspected(hanging, "digits:build")


def test_a_worker_imports_no_torch() -> None:
    """Neither with Celery nor without; what holds the credentials runs no code of models."""
    program = (
        "import sys, auditcore_service.worker.celery_worker, auditcore_service.worker.database_worker; "
        "print([name for name in ('torch', 'torchvision', 'onnx', 'timm', 'captum') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout == "[]\n"
