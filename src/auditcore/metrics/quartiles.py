"""Quartiles and whiskers of a box plot; numpy, no tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

WHISKER = 1.5
"""Widths of the box within which a value is no outlier."""


class BoxPlot(NamedTuple):
    """What a box plot shows of some values.

    Attributes:
        lowest: Smallest value that is no outlier.
        q1: First quartile.
        median: Second quartile.
        q3: Third quartile.
        highest: Largest value that is no outlier.
    """

    lowest: float
    q1: float
    median: float
    q3: float
    highest: float


def box_plot(values: Float[np.ndarray, " value"]) -> BoxPlot | None:
    """Quartiles by linear interpolation, and the most extreme values that are no outliers.

    Args:
        values: NaN marks a value that is undefined; it is left out.

    Returns:
        None where no value is defined. An outlier lies more than 1.5 widths of the box beyond it. A whisker never ends
        inside the box: where no value is left on its side, it ends at the box.

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
