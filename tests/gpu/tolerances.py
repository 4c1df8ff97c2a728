"""How far numbers of a device may be from those of the CPU, in float32: the tolerances of the CPU's own tests.

There, batched numbers are compared with one image at a time in float64. On a device the order of a sum differs, as it
does between batches. On a CPU with and without oneDNN, whose sums differ too, nearly all numbers below stayed within a
hundredth of their tolerance.

A rank is different: two pixels whose relevance differs in the last bit may change places, and then one number moves by
a whole step, however small the rounding was. Such numbers may be off by one step of their own curve, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, get_args

from auditcore.contracts.checks import (
    CHECK_CONTRACTS,
    CheckContract,
    ComplexityCheck,
    Game,
    InfidelityCheck,
    InsertionDeletionCheck,
    LocalizationCheck,
    PixelFlippingCheck,
    RandomizationCheck,
    RoadCheck,
    SensitivityCheck,
    accuracy_metric,
)
from auditcore.contracts.explainers import (
    EXPLAINER_CONTRACTS,
    Ablation,
    ExplainerContract,
    GradCam,
    Gradient,
    GradientShap,
    Iba,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    NoiseTunnel,
    Occlusion,
    Random,
    Rise,
    Saliency,
    SmoothGrad,
    has_defaults,
)


class Tolerance(NamedTuple):
    """A number may be off by `absolute`, or by this share of itself if that is more."""

    relative: float
    absolute: float

    def of(self, value: float) -> float:
        """What is allowed for a value."""
        return max(self.absolute, self.relative * abs(value))


_REPLICA = Tolerance(relative=2e-3, absolute=2e-4)
"""tests/unit/checks/test_checks_against_naive.py, test_ssim_sweep.py"""

_REMOVAL = Tolerance(relative=1e-4, absolute=1e-5)
"""test_road.py; test_pixel_flipping.py and test_insertion_deletion.py, where values near 0 may be off by 1e-6 only"""

_DISTANCE = Tolerance(relative=1e-3, absolute=1e-8)
"""test_map_checks.py: sensitivity and infidelity, a square of differences of logits that are rounded to 1e-6."""

_MAP = Tolerance(relative=1e-4, absolute=1e-6)
"""test_map_checks.py: complexity; test_localization_check.py"""

CHECKS: Mapping[type[CheckContract], Tolerance] = {
    **dict.fromkeys(CHECK_CONTRACTS, _REPLICA),
    PixelFlippingCheck: _REMOVAL,
    InsertionDeletionCheck: _REMOVAL,
    RoadCheck: _REMOVAL,
    SensitivityCheck: _DISTANCE,
    InfidelityCheck: _DISTANCE,
    LocalizationCheck: _MAP,
    # correlations of unrelated maps are sums of large terms that cancel
    RandomizationCheck: Tolerance(relative=0.0, absolute=2e-4),
    ComplexityCheck: _MAP,
}
"""By check, for every metric of it."""

METRICS: Mapping[str, Tolerance] = {
    # one pixel more or less among the hot ones of 1024, at one of eleven thresholds: on the plateaus of Grad-CAM
    # rounding decides what reaches a quantile (test_localization_check.py)
    "effective_heat_ratio": Tolerance(relative=1e-4, absolute=9e-4),
}
"""Of single metrics, instead of their check's."""

CONTROLS = Tolerance(relative=1e-2, absolute=1e-3)
"""What explainers report about themselves, differences relative to a difference: test_explainers.py."""

PROBABILITY = Tolerance(relative=1e-4, absolute=1e-6)
"""Of an original image's target."""

SHARED = Tolerance(relative=1e-4, absolute=1e-5)
"""Quantities of the whole audit: intervals, which are one of ten, and statistics of a layer."""

CURVES: Mapping[str, tuple[str, ...]] = {
    "lerf_auc": ("lerf_auc",),
    "morf_auc": ("morf_auc",),
    "inter_model_deletion": ("lerf_auc",),
    "srg": ("lerf_auc", "morf_auc"),
    "pixel_flipping_aoc": ("pixel_flipping_aoc",),
    **{name: (name,) for game in get_args(Game) for name in (game, accuracy_metric(game))},
    "morf_accuracy": ("morf_accuracy",),
    "lerf_accuracy": ("lerf_accuracy",),
    "morf_probability": ("morf_probability",),
    "lerf_probability": ("lerf_probability",),
    "road_gain": ("morf_probability", "lerf_probability"),
}
"""Metric -> curves over removals in order of relevance, of which it is the mean or the difference of means.

If two pixels on both sides of one removal change places, one point of a curve moves, by less than the largest step
between two of its points. Only where one did, the mean may be off by that over the number of steps.
"""

TOP_K_PIXEL = 0.01
"""One of k = 100 pixels: what a point of a curve of `top_k_score` may be off by."""

TOP_K: Mapping[str, float] = {"top_k_score": 1.0, "s_top_k": 2.0}
"""How far these may be off where points of that curve are, in units of the one that is off the most.

The first is a mean over the curve, the second relative to an area that is at least a half.
"""

PLATEAUS: frozenset[type[ExplainerContract]] = frozenset({GradCam, Iba, Occlusion, Ablation, Rise, KernelShap})
"""Methods with maps of few cells. Rounding decides which pixels of a cell that was warped are among the k."""

PLATEAU_PIXELS = 3
"""Of a cell, that may change places at once; 2 did between two CPU libraries, on the map of an ablation."""

_GATED, _DIFFERENCE, _MEAN = 1e-3, 1e-4, 2e-5

MAPS: Mapping[type[ExplainerContract], float] = {
    # gates of rectifiers that stand at 0 open in one order of summation and stay shut in another: what
    # test_maps_do_not_depend_on_the_batch allows. Adam, which the bottleneck uses, divides by the size of the gradient,
    # so that a small one is as loud as a large one
    **{contract: _GATED for contract in EXPLAINER_CONTRACTS if has_defaults(contract)},
    # a square and a variance of noisy maps: test_noise_tunnel.py
    NoiseTunnel: 2 * _GATED,
    # differences of logits that are much larger than they are
    Occlusion: _DIFFERENCE,
    Ablation: _DIFFERENCE,
    KernelShap: _DIFFERENCE,
    # a mean of probabilities: test_rise.py
    Rise: _MEAN,
    # drawn on the host
    Random: 0.0,
}
"""Largest deviation of a map, as a share of its largest value."""

_MANY_GATES = 2e-2

PHOTO_MAPS: Mapping[type[ExplainerContract], float] = {
    **MAPS,
    # of ten million gates on the way of a photo through the demo's network some stand at 0 or 6 at some point of a
    # path or under some noise, and each moves the map around it: 0.008 at most between two CPU libraries
    Gradient: _MANY_GATES,
    Saliency: _MANY_GATES,
    InputXGradient: _MANY_GATES,
    IntegratedGradients: _MANY_GATES,
    GradientShap: _MANY_GATES,
    SmoothGrad: _MANY_GATES,
    NoiseTunnel: _MANY_GATES,
}
"""The same for a deep network with photos."""
