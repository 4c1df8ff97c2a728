"""F-Fidelity stage by stage: fine-tuning, then each explainer, then the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from auditcore.contracts.access import AccessRules
from auditcore.contracts.experiments.stage import REPORT, Stage
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.f_fidelity import (
    F_FIDELITY_METRICS,
    FFidelityReport,
    FFidelityRequest,
)
from auditcore.contracts.retraining.stages import FINE_TUNE, MAKE_REPORT, measure_stage
from auditcore.costs.retraining import f_fidelity_passes
from auditcore.images.encoded import EncodedImage
from auditcore.kept_files import KeptFiles
from auditcore.retraining.fidelity_values import MINUS, PLUS, Drops, fidelity_drops
from auditcore.retraining.fine_tuned_model import FineTuned
from auditcore.retraining.fine_tuned_results import ImageValues, shared_fields
from auditcore.retraining.fine_tuning import FineTuning, values_of
from auditcore.retraining.kept_results import keep_result
from auditcore.retraining.pixel_ranks import CONSTANT_MAP

NOTHING_REMOVED = "no pixel would be removed for any size; raise `alpha_plus`, `alpha_minus`, `beta` or the sizes"


@final
class FFidelityRun:
    """One measurement of F-Fidelity, whose stages have only the kept files in common."""

    def __init__(
        self,
        request: FFidelityRequest,
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
        self._request, self._plan, self._kept = request, request.plan, kept
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
            for explainer in self._tuning.able:
                if stage.name == measure_stage(explainer.label):
                    self._measure(explainer, progress, enough)
        progress(1.0)

    def _passes(self, able: Sequence[Explainer], images: int, shape: InputShape) -> Passes:
        return f_fidelity_passes(self._plan, able, images=images, shape=shape)

    def _measure(self, explainer: Explainer, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        plan, tuned = self._plan, self._tuning.tuned

        def work(some: FineTuned, shared: MutableMapping[str, Tensor], tick: Callable[[], None]) -> dict[str, Tensor]:
            found = fidelity_drops(some, plan, explainer, colors=shared, tick=tick)
            return {
                f"{order}/{name}": value for order, drops in found.items() for name, value in drops._asdict().items()
            }

        expected = self._passes((explainer,), len(tuned.images), tuned.measured.shape)
        self._tuning.measure(values_of(explainer), work, expected=expected, progress=progress, enough=enough)

    def _report(self) -> FFidelityReport:
        tuning = self._tuning
        measured = [values for explainer in tuning.able for values in self._values(explainer)]
        names = [values_of(explainer) for explainer in tuning.able]
        return FFidelityReport(request=self._request, **shared_fields(tuning, measured, names=names))

    def _values(self, explainer: Explainer) -> Iterator[ImageValues]:
        """All metrics of one explainer, in each order of its maps."""
        found = self._tuning.measured(values_of(explainer)).tensors
        for order in self._plan.orders(explainer):
            drops = Drops(*(found[f"{order}/{name}"] for name in Drops._fields))
            yield from _metrics(explainer, order, drops, self._plan.sizes)


def _metrics(
    explainer: Explainer, order: RankingOrder, drops: Drops, sizes: tuple[float, ...]
) -> Iterator[ImageValues]:
    """Every metric of one explainer in one order: means over the sizes."""
    for metric in F_FIDELITY_METRICS:
        sign = PLUS if "_plus_" in metric else MINUS
        table = drops.accuracy if metric.endswith("accuracy") else drops.probability
        points = table[:, sign].numpy()
        defined = ~np.isnan(points)
        count = defined.sum(axis=1)
        total = np.where(defined, points, 0.0).sum(axis=1)
        values = np.divide(total, count, out=np.full(len(points), np.nan), where=count > 0)
        constant = drops.constant.tolist()
        yield ImageValues(
            explainer=explainer,
            order=order,
            metric=metric,
            higher_is_better=sign == PLUS,
            bounds=(-1.0, 1.0),
            values=values,
            reasons={
                image: CONSTANT_MAP if constant[image] else NOTHING_REMOVED
                for image in np.flatnonzero(count == 0).tolist()
            },
            x=sizes,
            points=points,
        )
