"""How an experiment is divided among workers: a shard for each of its stages."""

from __future__ import annotations

from typing import final

from auditcore.contracts.contract import Contract
from auditcore.contracts.experiments.request import ExperimentRequest
from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.experiments.stages import stages_of
from auditcore.contracts.images import ImagesReference
from auditcore_service.store.records import NewShard


@final
class ExperimentSets(Contract):
    """What is known of the images of an experiment, as it is stored beside its request.

    Attributes:
        training: Number of images to train on, before any is held out.
        validation: Number of images that were given for validation; 0 if they are held out.
        test: Number of test images of a study, or of audited images of a remedy.
        audited: The images of the audit that a remedy is about.
    """

    training: int
    validation: int
    test: int
    audited: ImagesReference | None = None


def shards_of_experiment(request: ExperimentRequest) -> tuple[NewShard, ...]:
    """The shards of an experiment as they are stored: one for each stage, in its wave."""
    counts: dict[int, int] = {}
    shards = []
    for stage in stages_of(request):
        index = counts.get(stage.wave, 0)
        counts[stage.wave] = index + 1
        shards.append(NewShard(wave=stage.wave, index=index, kind="stage", start=0, stop=1, weight=stage.weight))
    return tuple(shards)


def stage_of(request: ExperimentRequest, wave: int, index: int) -> Stage:
    """The stage of a shard.

    Args:
        request: The experiment.
        wave: Of the shard.
        index: Of the shard in its wave.
    """
    return [stage for stage in stages_of(request) if stage.wave == wave][index]
