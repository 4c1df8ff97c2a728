"""F-Fidelity stage by stage: fine-tuning, then each explainer, then the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import final

import numpy as np
from torch import Tensor

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import Passes
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.f_fidelity import (
    F_FIDELITY_METRICS,
    FFidelityReport,
    FFidelityRequest,
)
from auditcore.costs.retraining import f_fidelity_passes
from auditcore.retraining.fidelity_values import MINUS, PLUS, Drops, fidelity_drops
from auditcore.retraining.fine_tuned_model import FineTuned
from auditcore.retraining.fine_tuned_results import ImageValues, shared_fields
from auditcore.retraining.fine_tuned_run import FineTunedRun
from auditcore.retraining.fine_tuning import values_of
from auditcore.retraining.pixel_ranks import CONSTANT_MAP

NOTHING_REMOVED = "no pixel would be removed for any size; raise `alpha_plus`, `alpha_minus`, `beta` or the sizes"


@final
class FFidelityRun(FineTunedRun[FFidelityRequest]):
    """One measurement of F-Fidelity."""

    def _passes(self, able: Sequence[Explainer], images: int, shape: InputShape) -> Passes:
        return f_fidelity_passes(self._request.plan, able, images=images, shape=shape)

    def _measure(self, stage: Stage, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        explainer = self._measured_by(stage)
        if explainer is None:
            return
        plan, tuned = self._request.plan, self._tuning.tuned

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
        for order in self._request.plan.orders(explainer):
            drops = Drops(*(found[f"{order}/{name}"] for name in Drops._fields))
            yield from _metrics(explainer, order, drops, self._request.plan.sizes)


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
