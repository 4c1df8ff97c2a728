"""Quartiles and whiskers of a box plot; numpy, no tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

WHISKER = 1.5
"""A value is an outlier if it lies more than this many box widths beyond the box."""


class BoxPlot(NamedTuple):
    """The five numbers of a box plot.

    Attributes:
        lowest: Smallest value that is not an outlier.
        q1: First quartile.
        median: Second quartile.
        q3: Third quartile.
        highest: Largest value that is not an outlier.
    """

    lowest: float
    q1: float
    median: float
    q3: float
    highest: float


def box_plot(values: Float[np.ndarray, " value"]) -> BoxPlot | None:
    """Compute quartiles by linear interpolation, and the most extreme values that are not outliers.

    Args:
        values: Undefined values are NaN and are excluded.

    Returns:
        The five numbers, or None if no value is defined. An outlier lies more than 1.5 box widths beyond the box. A
        whisker never ends inside the box: if no value is left on its side, it ends at the box.

    Source: Tukey 1977, "Exploratory data analysis"; Tetkova & Hansen 2023, figure 5.
    """
    present = values[~np.isnan(values)]
    if not present.size:
        return None
    q1, median, q3 = np.percentile(present, [25, 50, 75])
    reach = WHISKER * (q3 - q1)
    lowest = present[present >= q1 - reach].min()
    highest = present[present <= q3 + reach].max()
    return BoxPlot(float(min(lowest, q1)), float(q1), float(median), float(q3), float(max(highest, q3)))
