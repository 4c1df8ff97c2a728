"""From tensors with NaN for "undefined" to measurements with null and a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from auditcore.contracts.checks import Check
from auditcore.contracts.metrics import EXPLAINER_METRICS
from auditcore.contracts.ranking_orders import RankingOrder
from auditcore.contracts.shards import AreaError, CurveSamples, Measurement
from auditcore.contracts.significance import VALUE_DIGITS, rounded, significant


def measurement(
    check: Check | None,
    metric: str,
    values: ArrayLike,
    *,
    indices: Sequence[int],
    explainer: str | None = None,
    variant: str | None = None,
    undefined: str | Mapping[int, str] = "the value is undefined for this image",
    curve: tuple[Sequence[float], ArrayLike] | None = None,
    control: bool = False,
    error: AreaError | None = None,
    ranked_by: RankingOrder | None = None,
) -> Measurement:
    """One metric on the images of a shard.

    Args:
        check: The check that measured it; None for what an explainer reports about itself.
        metric: A name among the check's metrics, or among those of explainers.
        values: (N,) numbers; NaN marks an undefined value.
        indices: Index of each image in the batch.
        explainer: Name of the explainer; None for properties of the model.
        variant: Sub-case, such as `rotate`.
        undefined: Why a NaN is one, for all images or by position.
        curve: Positions (L,) and values (N,L) of the curve behind the metric; NaN marks a missing point.
        control: Listed under `controls` even if the metric is not a control by itself.
        error: What is known of the error of areas under adaptive curves; the curve is then an interpolated one.
        ranked_by: The order of pixels or cells that the values rest on; None where there is none.
    """
    meaning = (check.metrics if check else EXPLAINER_METRICS)[metric]
    numbers = [significant(value, VALUE_DIGITS) for value in np.asarray(values, dtype=np.float64).tolist()]
    reasons = {
        index: undefined if isinstance(undefined, str) else undefined[position]
        for position, (index, number) in enumerate(zip(indices, numbers, strict=True))
        if number is None
    }
    return Measurement(
        check=check.label if check else "explainer",
        explainer=explainer,
        metric=metric,
        variant=variant,
        unit=meaning.unit,
        higher_is_better=meaning.higher_is_better,
        values=tuple(numbers),
        reasons=reasons,
        curve=None if curve is None else _curve(*curve, interpolated=error is not None),
        control=control or meaning.control,
        error=error,
        ranked_by=ranked_by,
    )


def _curve(x: Sequence[float], values: ArrayLike, *, interpolated: bool) -> CurveSamples:
    rows = np.asarray(values, dtype=np.float64)
    return CurveSamples(
        x=tuple(rounded(position) for position in x),
        values=tuple(
            None if np.isnan(row).all() else tuple(significant(value, VALUE_DIGITS) for value in row.tolist())
            for row in rows
        ),
        interpolated=interpolated,
    )


def not_applicable(check: Check, explainer: str, reason: str, *, indices: Sequence[int]) -> list[Measurement]:
    """Every metric an explainer would have had under a check, all null, for an explainer that cannot run."""
    undefined = np.full(len(indices), np.nan)
    return [
        measurement(check, metric, undefined, indices=indices, explainer=explainer, variant=variant, undefined=reason)
        for metric, meaning in check.listed_metrics.items()
        if meaning.of_explainer and not meaning.control
        for variant in (check.variants_of(metric) or (None,))
    ]


def without_rows(one: Measurement, missing: Mapping[int, str], indices: Sequence[int]) -> Measurement:
    """The same measurement with some rows undefined, whatever was measured of them.

    Args:
        one: One value per row.
        missing: Row -> why it has no value.
        indices: Index of each row's image.
    """
    if not missing:
        return one
    rows = range(len(one.values))
    curve = one.curve
    if curve is not None:
        values = tuple(None if row in missing else curve.values[row] for row in rows)
        curve = curve.model_copy(update={"values": values})
    return one.model_copy(
        update={
            "values": tuple(None if row in missing else one.values[row] for row in rows),
            "reasons": one.reasons | {indices[row]: reason for row, reason in missing.items()},
            "curve": curve,
        }
    )
