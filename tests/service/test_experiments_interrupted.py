"""Workers as processes, on both queues, that are killed or told to stop in the middle of a stage."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from auditcore_service.gateway.service import Service
from auditcore_service.settings import Settings
from queues import NO_REDIS, has_redis
from service_experiments import file_of, get, names, shard_of, states_of_stages, submit_study
from service_trainings import ALLOWED
from worker_process import wait_until, worker

# real workers that are killed; `make acceptance` runs them
pytestmark = [pytest.mark.slow, pytest.mark.long]

EPOCHS = 40
"""Of 4 steps: some seconds for each training."""

CHECKPOINT, WEIGHTS = "checkpoints/mixup-3", "weights/mixup-3.safetensors"


def finish(service: Service, settings: Settings, study: str) -> None:
    """Let a new worker do the rest."""

    def ended() -> bool:
        service.sweeper.sweep()
        return get(service, study).state in {"succeeded", "failed"}

    with worker(settings):
        wait_until(ended)
    assert (get(service, study).state, get(service, study).failure) == ("succeeded", None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue_kind", "how"),
    [
        pytest.param("redis", signal.SIGKILL, marks=pytest.mark.skipif(not has_redis(), reason=NO_REDIS)),
        ("database", signal.SIGKILL),
        ("database", signal.SIGTERM),
    ],
)
def test_a_study_goes_on_to_the_same_weights(
    make_settings: Callable[..., Settings], how: signal.Signals, tmp_path: Path
) -> None:
    settings = make_settings(lease_s=2.0, heartbeat_s=0.2, **ALLOWED)
    service = Service.of(settings)
    service.database.migrate()
    study = submit_study(service, epochs=EPOCHS)
    service.sweeper.sweep()

    def is_second_training_running() -> bool:
        return (
            states_of_stages(service, study)["mixup-3"] == "running"
            and shard_of(service, study, "mixup-3").progress > 0
        )

    with worker(settings) as process:
        wait_until(is_second_training_running)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
        process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    states = states_of_stages(service, study)
    # who is told to stop keeps a checkpoint and hands the stage back; who is killed is missed when its lease is over
    assert states["plain-3"] == "done"
    assert states["mixup-3"] == ("running" if how == signal.SIGKILL else "queued")
    assert (CHECKPOINT in names(service, study)) == (how == signal.SIGTERM)
    before = file_of(service, study, "weights/plain-3.safetensors")
    finish(service, settings, study)
    # on a busy machine a worker may lose its lease once more
    assert shard_of(service, study, "mixup-3").attempt >= 2
    assert file_of(service, study, "weights/plain-3.safetensors") == before
    assert CHECKPOINT not in names(service, study)

    other = make_settings(data_dir=tmp_path / "undisturbed", queue="database", **ALLOWED)
    undisturbed = Service.of(other)
    undisturbed.database.migrate()
    same = submit_study(undisturbed, epochs=EPOCHS)
    finish(undisturbed, other, same)
    for name in ("weights/plain-3.safetensors", WEIGHTS, "tables.md"):
        assert file_of(service, study, name) == file_of(undisturbed, same, name), name
    service.database.close()
    undisturbed.database.close()
