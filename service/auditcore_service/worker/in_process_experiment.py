"""Does stages of experiments in its own process, with torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from auditcore.contracts.experiments.stage import Stage
from auditcore.errors import WorkInterrupted
from auditcore.experiments.running import ExperimentInputs, open_experiment
from auditcore.kept_files import KeptFiles
from auditcore.orchestration.staged_runs import StagedRun
from auditcore_service.worker.compute_settings import ComputingSettings
from auditcore_service.worker.experiment_task import ExperimentTask
from auditcore_service.worker.in_process_training import asked_now_and_then, memory_is_enough, read_range


@final
class _FilesOfStage:
    """The kept files of whatever stage is being done: a run outlives its stages, and each has files of its own."""

    def __init__(self, now: KeptFiles) -> None:
        self.now = now

    def read(self, name: str) -> bytes | None:
        return self.now.read(name)

    def keep(self, name: str, data: bytes) -> None:
        self.now.keep(name, data)

    def forget(self, name: str) -> None:
        self.now.forget(name)

    def uri(self, name: str) -> str:
        return self.now.uri(name)


@final
@dataclass(frozen=True)
class _CurrentExperiment:
    """The experiment that this process worked on last.

    Attributes:
        id: Of the experiment.
        run: With its images, and perhaps models.
        files: Passed on to the files of the stage.
    """

    id: str
    run: StagedRun
    files: _FilesOfStage


@final
class InProcessExperiment:
    """Does stages. The last experiment stays in memory, so that its next stage can begin at once."""

    def __init__(self, settings: ComputingSettings, device: str) -> None:
        self._settings = settings
        self._device = device
        self._current: _CurrentExperiment | None = None

    def run_stage(
        self,
        experiment: ExperimentTask,
        stage: Stage,
        *,
        progress: Callable[[float], None],
        enough: Callable[[], bool],
        stage_begins: Callable[[], None] = lambda: None,
    ) -> bool:
        """Do a stage until its end, or until it is enough; `stage_begins` is called when the images are read.

        Returns:
            Whether the stage is done.

        Raises:
            InputError: The experiment cannot be carried out.
            AuditCancelled: `progress` has raised it.
        """
        with memory_is_enough(field="plan"):
            current = self._opened(experiment, progress)
            # what fails in the middle of a stage is not gone on with
            self._current = None
            stage_begins()
            try:
                current.run.run(stage, progress=progress, enough=asked_now_and_then(enough))
            except WorkInterrupted:
                ended = False
            else:
                ended = True
        self._current = current
        return ended

    def forget(self) -> None:
        """Make room for other work; the experiment goes on from its kept files."""
        self._current = None

    def _opened(self, experiment: ExperimentTask, progress: Callable[[float], None]) -> _CurrentExperiment:
        current = self._current
        if current is not None and current.id == experiment.id:
            current.files.now = experiment.kept
            return current
        self._current = None
        training, validation = experiment.training_images, experiment.validation_images
        sets = (
            range(training),
            range(training, training + validation),
            range(training + validation, training + validation + experiment.test_images),
        )
        images, validated, tested = (read_range(experiment.storage, one, progress) for one in sets)
        files = _FilesOfStage(experiment.kept)
        run = open_experiment(
            experiment.request,
            ExperimentInputs(images, validated or None, tested or None, experiment.failed),
            experiment_id=experiment.id,
            kept=files,
            access=self._settings.access,
            device=self._device,
        )
        return _CurrentExperiment(experiment.id, run, files)
