"""IDSDS stage by stage: fine-tuning, deleting each patch, then each explainer, then the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from auditcore.contracts.experiments.stage import Stage
from auditcore.contracts.explainers import Explainer
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.pass_counts import LOGITS, Passes
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.retraining.idsds import IdsdsPlan, IdsdsReport, IdsdsRequest
from auditcore.contracts.retraining.stages import PATCHES
from auditcore.costs.retraining import explaining_passes, idsds_passes
from auditcore.metrics.constancy import is_constant
from auditcore.metrics.single_deletion import single_deletion_score
from auditcore.retraining.fine_tuned_model import FineTuned
from auditcore.retraining.fine_tuned_results import ImageValues, shared_fields
from auditcore.retraining.fine_tuned_run import FineTunedRun
from auditcore.retraining.fine_tuning import values_of
from auditcore.retraining.single_deletions import output_of, patches, relevance_of_patches, without_each_patch

SAME_RELEVANCE = "all patches have the same relevance, or the map is not finite"
NO_DROP = "no patch changes the score of the target"

_WITHOUT = "without"


@final
class IdsdsRun(FineTunedRun[IdsdsRequest]):
    """One measurement of IDSDS. Before the explainers, each patch is deleted once for all of them."""

    def _passes(self, able: Sequence[Explainer], images: int, shape: InputShape) -> Passes:
        # a grid that does not fit is refused before anything is trained
        patches(self._request.plan, shape.height, shape.width)
        return idsds_passes(self._request.plan, able, images=images, shape=shape)

    def _delete(self, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """The scores without each patch, which all explainers share."""
        plan, tuned = self._request.plan, self._tuning.tuned

        def work(some: FineTuned, _shared: MutableMapping[str, Tensor], tick: Callable[[], None]) -> dict[str, Tensor]:
            return {_WITHOUT: without_each_patch(some, plan, tick)}

        _, height, width = tuned.measured.shape
        expected = LOGITS.times(len(tuned.images) * patches(plan, height, width).cells)
        self._tuning.measure(PATCHES, work, expected=expected, progress=progress, enough=enough)

    def _measure(self, stage: Stage, progress: Callable[[float], None], enough: Callable[[], bool]) -> None:
        if stage.name == PATCHES:
            self._delete(progress, enough)
            return
        explainer = self._measured_by(stage)
        if explainer is None:
            return
        plan, tuned = self._request.plan, self._tuning.tuned

        def work(some: FineTuned, shared: MutableMapping[str, Tensor], tick: Callable[[], None]) -> dict[str, Tensor]:
            found = relevance_of_patches(some, plan, explainer, colors=shared, tick=tick)
            return {str(order): sums for order, sums in found.items()}

        expected = explaining_passes((explainer,), images=len(tuned.images), shape=tuned.measured.shape)
        self._tuning.measure(values_of(explainer), work, expected=expected, progress=progress, enough=enough)

    def _report(self) -> IdsdsReport:
        tuning = self._tuning
        measured = [values for explainer in tuning.able for values in self._values(explainer)]
        names = [PATCHES, *(values_of(explainer) for explainer in tuning.able)]
        return IdsdsReport(request=self._request, **shared_fields(tuning, measured, names=names))

    def _values(self, explainer: Explainer) -> Iterator[ImageValues]:
        """The scores of one explainer, in each order of its maps."""
        tuned, plan = self._tuning.tuned, self._request.plan
        whole = output_of(tuned, plan, tuned.logits, tuned.targets)
        without = self._tuning.measured(PATCHES).tensors[_WITHOUT]
        found = self._tuning.measured(values_of(explainer)).tensors
        for order in plan.orders(explainer):
            yield _correlated(plan, explainer, order, found[order], whole, without)


def _correlated(
    plan: IdsdsPlan,
    explainer: Explainer,
    order: RankingOrder,
    sums: Float[Tensor, "image patch"],
    whole: Float[Tensor, " image"],
    without: Float[Tensor, "image patch"],
) -> ImageValues:
    """The score of each image by one explainer."""
    values = single_deletion_score(sums, whole, without, plan.correlation)
    constant = is_constant(sums, torch.ones_like(sums, dtype=torch.bool)).tolist()
    undefined = values.isnan().nonzero().flatten().tolist()
    return ImageValues(
        explainer=explainer,
        order=order,
        metric="idsds",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        values=values.numpy(),
        reasons={image: SAME_RELEVANCE if constant[image] else NO_DROP for image in undefined},
    )
