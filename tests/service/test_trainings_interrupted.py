"""Workers as processes, on both queues, that are killed or told to stop in the middle of a training."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
import pytest

from auditcore.contracts.training.report import TrainingReport
from auditcore.contracts.training.request import TrainingRequest
from auditcore.costs.estimate import BACKWARD_COST
from auditcore_service.gateway.service import Service
from auditcore_service.principals import ANONYMOUS
from auditcore_service.settings import Settings
from auditcore_service.store.shards import checkpoint_of
from queues import NO_REDIS, has_redis
from service_trainings import ALLOWED, body_of, get, store_digits, submit, undisturbed, weights_of
from worker_process import shards, wait_until, worker

EPOCHS = 60
"""Of 4 steps: some seconds, of which a checkpoint is made every 0.2."""


def steps_done(service: Service, training_id: str) -> int:
    return max((shard.stop for shard in shards(service, training_id)[:2] if shard.state == "done"), default=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("queue_kind", "how"),
    [
        pytest.param("redis", signal.SIGKILL, marks=pytest.mark.skipif(not has_redis(), reason=NO_REDIS)),
        pytest.param("database", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
def test_a_training_goes_on_from_its_checkpoint_to_the_same_weights(
    make_settings: Callable[..., Settings], how: signal.Signals
) -> None:
    settings = make_settings(checkpoint_s=0.2, lease_s=2.0, heartbeat_s=0.2, **ALLOWED)
    service = Service.of(settings)
    service.database.migrate()
    training_id = submit(service, epochs=EPOCHS)
    service.sweeper.sweep()
    with worker(settings) as process:
        wait_until(lambda: steps_done(service, training_id) > 0)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(how)
        process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    done = steps_done(service, training_id)
    assert 0 < done < 4 * EPOCHS
    with service.database.reading() as connection:
        assert checkpoint_of(connection, training_id) is not None
    states = {shard.kind: shard.state for shard in shards(service, training_id) if shard.state != "done"}
    # who is told to stop hands the rest back; who is killed is missed when its lease is over
    assert states["train"] == ("running" if how == signal.SIGKILL else "queued")

    def ended() -> bool:
        service.sweeper.sweep()
        return get(service, training_id).state in {"succeeded", "failed"}

    with worker(settings):
        wait_until(ended)
    assert get(service, training_id).state == "succeeded"
    assert weights_of(service, training_id) == undisturbed(epochs=EPOCHS)
    report = TrainingReport.model_validate_json(
        service.trainings.file(ANONYMOUS, service.trainings.report_digest(ANONYMOUS, training_id))
    )
    assert report.attempts == 2
    assert len(report.epochs) == EPOCHS
    # the steps that were repeated are fewer than all, and count as cost only once
    assert report.cost.backward_images == EPOCHS * 30
    # the speed that the process has told is what the next training is priced by
    price = service.trainings.estimate(
        ANONYMOUS, TrainingRequest.model_validate(body_of(store_digits(service)))
    ).estimate
    assert (price.basis, price.device) == ("measured", "cpu")
    assert price.passes_per_s == pytest.approx(
        (report.cost.forward_images + BACKWARD_COST * report.cost.backward_images) / report.cost.seconds, rel=0.5
    )
    service.database.close()
