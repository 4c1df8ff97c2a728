"""What finished shards tell about the speed of models, for estimates of later audits and trainings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from auditcore.contracts.input_shape import TYPICAL
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.pass_counts import total
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import ShardResult
from auditcore.contracts.training.request import TrainingRequest
from auditcore.costs.cost_model import model_identity, network_identity, plan_identity, way_identity
from auditcore.costs.estimate import expected_passes, weight
from auditcore.costs.image_size import input_shape_of, size_factor
from auditcore.costs.training_speed import training_identity, training_way_identity
from auditcore_service.store.database import Database
from auditcore_service.store.speeds import SeenSpeed, remember_speed
from auditcore_service.worker.training_task import TrainedSteps

log = structlog.get_logger(__name__)

TRAINING: Final = "train"
"""Stands for the wave in the speeds of trainings."""


@final
class MeasuredSpeeds:
    """Writes the speeds that estimates read."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def remember(self, reference: ModelReference, plan: AuditPlan, result: ShardResult, *, cold: bool) -> None:
        """Store how long a shard took, without the preparation that only the first shard of a model pays.

        Args:
            reference: The model.
            plan: The plan of the audit.
            result: Of the shard.
            cold: Whether the shard calibrated the model; the raw speed of the model is then stored too, and that of
                its network scaled to the typical input size.
        """
        used = sum(bool(record.targets) for record in result.images)
        seconds = result.cost.seconds - result.preparation_seconds
        if not used or seconds <= 0:
            return
        plan, capabilities = plan.for_model(result.model_name), result.model.capabilities
        # counted with the input shape that an estimate knows, so that both count alike
        needed = expected_passes(
            plan, wave=result.wave, images=used, capabilities=capabilities, shape=input_shape_of(reference)
        )
        model, network, way = model_identity(reference), network_identity(reference), way_identity(plan)
        rates: dict[tuple[str, str, str], tuple[float, float]] = {}
        rates[model, plan_identity(plan), result.wave] = (weight(total(needed.values())), seconds)
        if cold and result.calibration is not None:
            measured = result.calibration
            rates[model, way, "forward"] = (measured.forward_per_s, 1.0)
            rates[model, way, "gradient"] = (measured.gradient_per_s, 1.0)
            rates[model, way, "comparison"] = (measured.comparison_per_s, 1.0)
            shape = result.model.preprocessing.shape
            passes_at_typical, maps_at_typical = size_factor(reference, shape), shape.pixels / TYPICAL.pixels
            rates[network, way, "forward"] = (measured.forward_per_s * passes_at_typical, 1.0)
            rates[network, way, "gradient"] = (measured.gradient_per_s * passes_at_typical, 1.0)
            rates[network, way, "comparison"] = (measured.comparison_per_s * maps_at_typical, 1.0)
        self._store(result.cost.device, rates)

    def remember_training(self, request: TrainingRequest, done: TrainedSteps) -> None:
        """Store how long a part of a training took; it never counts for an audit.

        Args:
            request: Of the training.
            done: What the part has done.
        """
        if done.passes <= 0 or done.seconds <= 0:
            return
        key = training_identity(request.model), training_way_identity(request.plan), TRAINING
        self._store(done.device, {key: (done.passes, done.seconds)})

    def _store(self, device: str, rates: Mapping[tuple[str, str, str], tuple[float, float]]) -> None:
        try:
            with self._database.writing() as connection:
                for (identity, name, wave), (done, took) in rates.items():
                    seen = SeenSpeed(
                        model=identity,
                        device=device,
                        plan=name,
                        wave=wave,
                        passes=done,
                        seconds=took,
                        updated_at=self._clock(),
                    )
                    remember_speed(connection, seen)
        except SQLAlchemyError:  # a less exact estimate is no reason to compute the shard again
            log.exception("speed_not_stored")
