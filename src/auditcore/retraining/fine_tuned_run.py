"""Measures on a fine-tuned model stage by stage: fine-tuning, then each explainer, then the report."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

from auditcore.contracts.access import AccessRules
from auditcore.contracts.experiments.stage import REPORT, Stage
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.retraining.f_fidelity import FFidelityRequest
from auditcore.contracts.retraining.idsds import IdsdsRequest
from auditcore.contracts.retraining.measured_images import FineTunedReport
from auditcore.contracts.retraining.stages import FINE_TUNE, MAKE_REPORT, measure_stage
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles
from auditcore.retraining.fine_tuning import FineTuning
from auditcore.retraining.kept_results import keep_result

Request = TypeVar("Request", FFidelityRequest, IdsdsRequest)


class FineTunedRun(ABC, Generic[Request]):
    """One measurement, whose stages have only the kept files in common."""

    def __init__(
        self,
        request: Request,
        images: Sequence[EncodedImage],
        validation: Sequence[EncodedImage] | None,
        *,
        experiment_id: str,
        kept: KeptFiles,
        access: AccessRules,
        device: torch.device | str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a measurement, or to go on with one; nothing is computed yet.

        Args:
            request: With a pinned model.
            images: Encoded training images.
            validation: Encoded images to measure on; None if some of the others are held out.
            experiment_id: Name of the measurement in its report.
            kept: Files of this measurement.
            access: What the request may reach.
            device: Where the model runs.
            clock: Seconds, monotonic.

        Raises:
            InputError: A function is not allowed, or the model cannot be trained.
        """
        self._request: Request = request
        self._kept = kept
        self._tuning = FineTuning(
            request,
            images,
            validation,
            passes=self._passes,
            experiment_id=experiment_id,
            kept=kept,
            access=access,
            device=device,
            clock=clock,
        )

    def run(self, stage: Stage, *, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Do a stage, or go on with one that was interrupted.

        Args:
            stage: One of `fine_tuned_stages`; all of earlier waves are done.
            progress: Called with the share of the stage that is done, in [0,1]; may raise AuditCancelled.
            enough: Asked after each step and each batch.

        Raises:
            InputError: The measurement cannot be carried out, or the kept files are those of another one.
            WorkInterrupted: It was enough for now; the same call goes on. An interruption costs at most a step of the
                training or the values of 64 images.
        """
        if stage.name == FINE_TUNE:
            self._tuning.fine_tune(progress=progress, enough=enough)
        elif stage.name == MAKE_REPORT:
            keep_result(self._kept, REPORT, self._report())
        else:
            self._measure(stage, progress, enough)
        progress(1.0)

    def _measured_by(self, stage: Stage) -> Explainer | None:
        """The explainer that a stage measures; None if it cannot run on the model, or the stage measures none."""
        return next((one for one in self._tuning.able if stage.name == measure_stage(one.label)), None)

    @abstractmethod
    def _passes(self, able: Sequence[Explainer], images: int, shape: InputShape) -> Passes:
        """Passes of the measure on the fine-tuned model."""

    @abstractmethod
    def _measure(self, stage: Stage, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Keep what a stage measures; nothing if its explainer cannot run on the model."""

    @abstractmethod
    def _report(self) -> FineTunedReport:
        """The report from what is kept."""
