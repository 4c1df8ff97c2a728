"""What a worker does before it changes its working folder, and after."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from pydantic import SecretStr

from auditcore_service.settings import Settings
from auditcore_service.worker.working_folder import empty_working_folder


def test_the_folder_is_new_private_empty_and_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/somewhere/else"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with empty_working_folder() as folder:
        assert Path.cwd().parent == folder
        for private in (Path.cwd(), folder, folder.parent):
            assert private.stat().st_mode & 0o777 == 0o700
        assert list(Path.cwd().iterdir()) == []
        assert sys.path == [str(tmp_path), "/somewhere/else"]
        # what a library writes there goes with it
        Path("cache").write_text("x")
        with empty_working_folder(tmp_path) as other:
            assert other.parent == tmp_path
            assert folder.exists()
    assert Path.cwd() == tmp_path
    assert not folder.exists()


def test_the_folder_of_a_worker_that_was_killed_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path;"
        "from auditcore_service.worker.working_folder import empty_working_folder\n"
        "with empty_working_folder(Path(sys.argv[1])) as own:\n"
        "    (own / 'stop').touch(); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    assert (left / "stop").exists()
    with empty_working_folder(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own]


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("data_dir", "var", "{here}/var"),
        ("file_roots", ["models", "/abs"], ["{here}/models", "/abs"]),
        ("token_roots", ["tokens"], ["{here}/tokens"]),
        ("model_keys", ["key.pem"], ["{here}/key.pem"]),
        ("database_url", "sqlite:///a/b.db", "sqlite:///{here}/a/b.db"),
        ("database_url", "sqlite+pysqlite:///b.db?timeout=3", "sqlite+pysqlite:///{here}/b.db?timeout=3"),
        ("database_url", "sqlite:////abs/b.db", "sqlite:////abs/b.db"),
        ("database_url", "postgresql://user:word@host/name", "postgresql://user:word@host/name"),
        ("blob_url", "blobs", "{here}/blobs"),
        ("blob_url", "file://blobs", "file://{here}/blobs"),
        ("blob_url", "file:///abs/blobs", "file:///abs/blobs"),
        ("blob_url", "~/blobs", "~/blobs"),
        ("blob_url", "s3://bucket/prefix", "s3://bucket/prefix"),
        ("mlflow_tracking_uri", "mlruns", "{here}/mlruns"),
        ("mlflow_tracking_uri", "file:mlruns", "file:{here}/mlruns"),
        ("mlflow_tracking_uri", "file:///abs", "file:///abs"),
        ("mlflow_tracking_uri", "http://mlflow:5000", "http://mlflow:5000"),
    ],
)
def test_paths_of_the_operator_mean_the_same_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: object, expected: object
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.model_validate({name: given}).with_absolute_paths()
    monkeypatch.chdir("/")
    found = getattr(settings, name)
    found = found.get_secret_value() if isinstance(found, SecretStr) else found
    found = [str(one) for one in found] if isinstance(found, tuple) else str(found)
    wanted = [expected] if isinstance(expected, str) else list(expected)  # type: ignore[call-overload]
    assert ([found] if isinstance(found, str) else found) == [one.format(here=tmp_path) for one in wanted]


def test_every_setting_that_is_a_path_is_made_absolute() -> None:
    """A setting that is added later must not be forgotten."""
    paths = {name for name, field in Settings.model_fields.items() if "Path" in str(field.annotation)}
    given = {name: ("x",) if "tuple" in str(Settings.model_fields[name].annotation) else "x" for name in paths}
    settings = Settings.model_validate(given).with_absolute_paths()
    for name in paths:
        value = getattr(settings, name)
        assert all(path.is_absolute() for path in (value if isinstance(value, tuple) else (value,))), name
    named = {
        name
        for name in Settings.model_fields
        if name.endswith(("_url", "_uri", "_dir", "_roots", "signing_key", "model_keys"))
    }
    # Redis takes no relative path: what follows unix:// begins with the root
    assert named == paths | {"database_url", "blob_url", "mlflow_tracking_uri", "redis_url"}
