"""What a profile names, and what happens where the kernel cannot enforce it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditcore_service.settings import Settings
from auditcore_service.startup import CannotStart
from auditcore_service.worker import process
from auditcore_service.worker.compute_environment import WAITING, compute_environment
from auditcore_service.worker.compute_folders import ComputeFolder
from auditcore_service.worker.compute_settings import ComputeSettings
from auditcore_service.worker.sandbox import enforcement
from auditcore_service.worker.sandbox.enforcement import SandboxMissing, enforce
from auditcore_service.worker.sandbox.profile import SandboxProfile, sandbox_profile


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name in ("roots/models", "roots/service", "tokens"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "roots/service/auditcore.db").touch()
    return Settings(
        data_dir=tmp_path / "roots/service",
        file_roots=(tmp_path / "roots",),
        token_roots=(tmp_path / "tokens",),
        server_prefixes=("http://models.internal:8080/", "https://models.example/"),
        mlflow_tracking_uri="https://ann:password@mlflow.example/",
        workers=2,
        threads=3,
    )


@pytest.fixture
def folder(tmp_path: Path) -> ComputeFolder:
    return ComputeFolder(tmp_path / "folders")


def test_a_folder_with_the_data_of_the_service_is_listed_without_it(settings: Settings, folder: ComputeFolder) -> None:
    profile = sandbox_profile(settings, "nothing", folder)
    (roots,) = settings.file_roots
    assert str(roots / "models") in profile.read
    assert str(roots) in profile.listed
    hidden = roots / "service"
    assert not any(Path(one).is_relative_to(hidden) or hidden.is_relative_to(one) for one in profile.read)
    assert str(folder.files) in profile.read
    assert str(folder.own) in profile.write
    assert profile.ports is None
    assert str(settings.token_roots[0]) not in profile.read


def test_only_a_process_that_asks_servers_reaches_their_ports_and_tokens(
    settings: Settings, folder: ComputeFolder
) -> None:
    profile = sandbox_profile(settings, "servers", folder)
    assert profile.ports == (53, 443, 8080)
    assert str(settings.token_roots[0]) in profile.read


def test_where_it_is_required_nothing_works_without_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcement, "landlock_version", lambda: 0)
    with pytest.raises(SandboxMissing, match="lacks landlock"):
        enforce(SandboxProfile(required=True, read=(), listed=(), write=(), ports=None))
    monkeypatch.setattr(process, "hide_process", lambda: None)
    with pytest.raises(CannotStart, match="AUDIT_SANDBOX is required"):
        process.run_worker(settings.model_copy(update={"sandbox": "required"}))


def test_the_environment_is_a_list(tmp_path: Path) -> None:
    given = {
        "PATH": "/bin",
        "OMP_NUM_THREADS": "4",
        "GOMP_SPINCOUNT": "7",
        "AUDIT_DATABASE_URL": "postgresql://a:b@c/d",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HF_TOKEN": "t",
        "HTTPS_PROXY": "http://user:password@proxy",
        "TEAM": "x",
    }
    found = compute_environment(given, also=("TEAM",), folder=tmp_path)
    assert {name for name in given if name in found} == {"PATH", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "TEAM"}
    assert found["HOME"] == found["TMPDIR"] == str(tmp_path)
    # an operator who wants threads to spin says so
    assert {**WAITING, "GOMP_SPINCOUNT": "7"}.items() <= found.items()


def test_a_process_gets_no_credentials_of_a_registry(settings: Settings) -> None:
    given = ComputeSettings.of(settings)
    assert given.access.mlflow_tracking_uri == "https://mlflow.example/"
    assert "password" not in given.model_dump_json()
    assert given.threads == 3


def test_a_cache_of_kernels_is_made_and_one_that_cannot_be_written_is_not_named(
    settings: Settings, folder: ComputeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing torch fails if it is told of a folder that it cannot make, as on a read-only root."""
    # no user can make anything below these
    (tmp_path / "file").write_text("")
    nowhere = [str(tmp_path / "file" / "inductor"), "/proc/inductor"]
    kept = tmp_path / "volume" / "triton"
    for name in nowhere:
        given = {"TORCHINDUCTOR_CACHE_DIR": name, "TRITON_CACHE_DIR": str(kept), "TRITON_OTHER": "1"}
        found = compute_environment(given, also=(), folder=tmp_path)
        assert "TORCHINDUCTOR_CACHE_DIR" not in found
        assert (found["TRITON_CACHE_DIR"], found["TRITON_OTHER"]) == (str(kept), "1")
        for variable, value in given.items():
            monkeypatch.setenv(variable, value)
        written = sandbox_profile(settings, "nothing", folder).write
        assert kept.is_dir()
        assert str(kept) in written
        assert name not in written


def test_the_next_worker_removes_the_folder_of_one_that_was_killed(tmp_path: Path) -> None:
    killed = ComputeFolder(tmp_path / "folders")
    alive = ComputeFolder(tmp_path / "folders")
    (killed.own / "weights").write_text("large")
    # as the kernel does with the descriptors of a process that is killed
    os.close(killed._folder._handle)
    killed._folder._handle = -1
    ComputeFolder(tmp_path / "folders")
    assert not killed.own.exists()
    assert alive.own.exists()
    alive.remove()
    assert not alive.own.parent.exists()


@pytest.mark.skipif(enforcement.landlock_version() == 0, reason="this kernel lacks landlock")
def test_a_file_that_a_process_may_not_read_is_an_error_of_the_request(tmp_path: Path) -> None:
    """Not one of the service: files that were made beside its data after the worker has started are hidden."""
    hidden = tmp_path / "weights.safetensors"
    hidden.write_text("weights")
    script = (
        "import sys\n"
        "from auditcore.errors import UnreachableResource\n"
        "from auditcore.sources.local_files import local_file\n"
        "from auditcore_service.worker.sandbox.enforcement import enforce\n"
        "from auditcore_service.worker.sandbox.profile import SandboxProfile\n"
        "print(local_file(sys.argv[1], field='model.weights.uri').name)\n"
        "enforce(SandboxProfile(required=True, read=(), listed=(), write=(), ports=None))\n"
        "try:\n"
        "    local_file(sys.argv[1], field='model.weights.uri')\n"
        "except UnreachableResource as error:\n"
        "    print(error.field, error.message)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, hidden.as_uri()], capture_output=True, text=True, check=True, timeout=60
    )
    before, after = found.stdout.splitlines()
    assert before == "weights.safetensors"
    assert after.startswith(f"model.weights.uri this process may not read {hidden.as_uri()}")
