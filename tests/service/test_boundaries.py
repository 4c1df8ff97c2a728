from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import SecretStr

from auditcore_service.queue.celery_queue import celery_options
from auditcore_service.settings import Settings

HEAVY = ("torch", "torchvision", "captum", "zennit", "timm", "scipy")


@pytest.mark.parametrize(
    "statement",
    [
        (
            "from auditcore_service.gateway.app import create_app; from auditcore_service.settings import Settings; "
            "create_app(Settings(redis_url='redis://localhost:1')).openapi()"
        ),
        (
            "import auditcore_service.worker.celery_worker, auditcore_service.worker.database_worker, "
            "auditcore_service.worker.process, auditcore_service.embedded.process_tree, "
            "auditcore_service.gateway.process"
        ),
    ],
)
def test_the_gateway_and_the_workers_parent_never_import_torch(statement: str) -> None:
    code = f"import sys; {statement}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_settings_travel_through_the_environment_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        redis_url="unix:///run/redis.sock",
        database_url="postgresql://user:secret@host/name",
        https_prefixes=("https://models.example/",),
        file_roots=("/data",),
        port=0,
        threads=3,
        oidc_required_claims={"team": 'release\'s "own"'},
    )
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
    assert hash(Settings()) == hash(settings)


def test_redis_url_without_prefix_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AUDIT_REDIS_URL", raising=False)
    monkeypatch.setenv("REDIS_URL", "redis://example:6379/1")
    assert Settings().redis == "redis://example:6379/1"


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_DATABASE_URL", "postgresql://user:swordfish@host/name")
    assert "swordfish" not in repr(Settings())


def test_a_prefix_without_slash_is_refused() -> None:
    with pytest.raises(ValueError, match="end in /"):
        Settings(https_prefixes=("https://models.example",))


def test_no_queue_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "AUDIT_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="AUDIT_REDIS_URL"):
        _ = Settings().redis


def test_celery_never_hands_a_running_shard_to_a_second_worker() -> None:
    settings = Settings(redis_url=SecretStr("unix:///run/redis.sock"), shard_limit_s=100, drain_s=10)
    options = celery_options(settings)
    assert options["broker_url"] == "redis+socket:///run/redis.sock"
    timeouts = {
        options["visibility_timeout"],
        options["broker_transport_options"]["visibility_timeout"],
        options["result_backend_transport_options"]["visibility_timeout"],
    }
    # each of two parts may take 100 s and a tenth more, after a start of 300 s, and then has to be stopped
    assert options["task_time_limit"] == 830
    assert timeouts == {1660}
    # the code of models must not meet an exception that it could catch
    assert "task_soft_time_limit" not in options
    assert options["task_acks_late"]
    assert options["worker_pool_start_method"] == "spawn"
    assert options["accept_content"] == ["json"]
