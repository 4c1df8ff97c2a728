"""Compare the numbers of two audits with the same plan and images, each with its tolerance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from torch import Tensor

from auditcore.contracts.checks import CheckContract
from auditcore.contracts.explainers import ExplainerContract
from auditcore.contracts.plan import AuditPlan
from auditcore.contracts.shards import Measurement, ShardResult
from gpu import tolerances
from gpu.tolerances import Tolerance

_Key = tuple[str, str | None, str, str | None]
_POSITION = Tolerance(relative=1e-5, absolute=1e-9)


@dataclass(frozen=True)
class Row:
    """One metric of one explainer, over all images and variants.

    Attributes:
        subject: What was compared: a check, an explainer or a map.
        explainer: Label; None for properties of model and image.
        metric: Name; `curve` follows where the points of its curve are meant.
        deviation: |difference| of the numbers that come nearest to what is allowed, or lie farthest beyond it.
        tolerance: What is allowed there.
        ok: Whether every number was within its tolerance.
        steps: How many curves moved by a step, where one was allowed.
    """

    subject: str
    explainer: str | None
    metric: str
    deviation: float
    tolerance: float
    ok: bool
    steps: int = 0

    @property
    def line(self) -> str:
        """For a reader."""
        who = "" if self.explainer is None else f" of {self.explainer}"
        return f"{self.subject}: {self.metric}{who} deviates by {self.deviation:.2g}, allowed {self.tolerance:.2g}"

    def as_json(self) -> dict[str, object]:
        """For the record."""
        return asdict(self)


@dataclass
class _Worst:
    """The number that comes nearest to its tolerance, or lies farthest beyond it."""

    deviation: float = 0.0
    tolerance: float = 0.0
    ratio: float = -1.0
    ok: bool = True
    steps: int = 0

    def see(self, deviation: float, tolerance: float) -> None:
        """One more number."""
        fine = deviation <= tolerance
        self.ok &= fine
        ratio = 0.0 if deviation == 0 else deviation / tolerance if tolerance else math.inf
        if ratio > self.ratio:
            self.deviation, self.tolerance, self.ratio = deviation, tolerance, ratio

    def see_curve(self, curve: _Curve) -> None:
        """All points of one more curve."""
        for deviation, tolerance in zip(curve.off, curve.allowed, strict=True):
            self.see(deviation, tolerance)
        self.steps += curve.step > 0

    def row(self, subject: str, explainer: str | None, metric: str) -> Row:
        """What is reported."""
        return Row(subject, explainer, metric, self.deviation, self.tolerance, self.ok, self.steps)


def compare_audits(
    subject: str, plan: AuditPlan, expected: Sequence[ShardResult], actual: Sequence[ShardResult]
) -> list[Row]:
    """Every number of two audits of one plan: originals, shared quantities, values and curves.

    Args:
        subject: Name of the comparison.
        plan: Of both.
        expected: Results of each wave on the CPU, the one with measurements last.
        actual: The same on a device.
    """
    rows = [_originals(subject, expected[-1], actual[-1])]
    rows += [_shared(subject, one, other) for one, other in zip(expected[:-1], actual[:-1], strict=True)]
    if [_key(one) for one in expected[-1].measurements] != [_key(one) for one in actual[-1].measurements]:
        return [*rows, Row(subject, None, "which metrics there are", math.inf, 0.0, ok=False)]
    judge = _Judge(plan, expected[-1], actual[-1])
    found: dict[tuple[str | None, str], _Worst] = {}
    for one, other in zip(expected[-1].measurements, actual[-1].measurements, strict=True):
        worst = found.setdefault((one.explainer, one.metric), _Worst())
        for position, (value, measured) in enumerate(zip(one.values, other.values, strict=True)):
            worst.see(_difference(value, measured), judge.base(one).of(value or 0.0) + judge.slack(one, position))
        if one.curve is not None and other.curve is not None:
            points = found.setdefault((one.explainer, f"{one.metric} curve"), _Worst())
            for x, measured in zip(one.curve.x, other.curve.x, strict=True):
                points.see(_difference(x, measured), _POSITION.of(x))
            for position in range(len(one.curve.values)):
                points.see_curve(judge.curve(one, position))
    return [*rows, *(worst.row(subject, explainer, metric) for (explainer, metric), worst in found.items())]


def compare_maps(
    subject: str,
    explainer: ExplainerContract,
    expected: Tensor,
    actual: Tensor,
    shares: Mapping[type[ExplainerContract], float] = tolerances.MAPS,
) -> Row:
    """Maps of the same images, relative to the largest value of each image's map.

    Args:
        subject: Name of the comparison.
        explainer: Whose maps they are.
        expected: On the CPU.
        actual: Of a device.
        shares: What they may be off by.
    """
    share = shares[type(explainer)]
    worst = _Worst()
    if expected.shape != actual.shape:
        return Row(subject, explainer.label, "shape of the maps", math.inf, 0.0, ok=False)
    for one, other in zip(expected.double(), actual.cpu().double(), strict=True):
        largest = float(one.abs().amax())
        off = float((one - other).abs().amax())
        # NaN is smaller than nothing and larger than nothing
        worst.see((off / largest if largest else off) if math.isfinite(off) else math.inf, share)
    return worst.row(subject, explainer.label, "map, relative to its largest value")


def largest_deviations(expected: ShardResult, actual: ShardResult) -> dict[str, float]:
    """Check and metric -> largest |difference| of a value, whatever is allowed; infinite where one is undefined."""
    found: dict[str, float] = {}
    others = {_key(other): other for other in actual.measurements}
    for one in expected.measurements:
        name = f"{one.check}.{one.metric}"
        pairs = zip(one.values, others[_key(one)].values, strict=True)
        found[name] = max(found.get(name, 0.0), *(_difference(value, measured) for value, measured in pairs))
    return {name: float(f"{deviation:.3g}") for name, deviation in found.items()}


def failures(rows: Iterable[Row]) -> list[str]:
    """A line for each row that is not within its tolerance."""
    return [row.line for row in rows if not row.ok]


def _key(one: Measurement) -> _Key:
    return one.check, one.explainer, one.metric, one.variant


def _difference(value: float | None, measured: float | None) -> float:
    """|difference|; infinite where only one of the two is defined."""
    if value is None or measured is None:
        return 0.0 if value is measured else math.inf
    return abs(value - measured)


def _originals(subject: str, expected: ShardResult, actual: ShardResult) -> Row:
    """Which images were used, which classes were explained, how probable these were."""
    worst = _Worst()
    for one, other in zip(expected.images, actual.images, strict=True):
        if (one.code, [target.target for target in one.targets]) != (other.code, [t.target for t in other.targets]):
            worst.see(math.inf, 0.0)
            continue
        for target, measured in zip(one.targets, other.targets, strict=True):
            worst.see(
                _difference(target.probability, measured.probability), tolerances.PROBABILITY.of(target.probability)
            )
    return worst.row(subject, None, "probability of the original images")


def _shared(subject: str, expected: ShardResult, actual: ShardResult) -> Row:
    """What the first wave contributes to quantities of the whole audit."""
    worst = _Worst()
    if [sample.key for sample in expected.shared] != [sample.key for sample in actual.shared]:
        worst.see(math.inf, 0.0)
        return worst.row(subject, None, "shared quantities")
    for one, other in zip(expected.shared, actual.shared, strict=True):
        for row, measured_row in zip(one.values, other.values, strict=True):
            for value, measured in zip(row, measured_row, strict=True):
                worst.see(_difference(value, measured), tolerances.SHARED.of(value))
    return worst.row(subject, None, "shared quantities")


@dataclass(frozen=True)
class _Curve:
    """Compare one curve with the same curve of another audit.

    Attributes:
        off: What each point is off by.
        allowed: By what it may be.
        step: By how much it moved at one point, if it did and was allowed to.
        largest: The largest of `off` if a point is off by more than rounding explains, else 0.
    """

    off: tuple[float, ...]
    allowed: tuple[float, ...]
    step: float = 0.0
    largest: float = 0.0


@dataclass(frozen=True)
class _Judge:
    """What the numbers of one audit may be off by, given both."""

    plan: AuditPlan
    expected: ShardResult
    actual: ShardResult

    @cached_property
    def _checks(self) -> dict[str, CheckContract]:
        return {check.label: check for check in self.plan.checks}

    @cached_property
    def _explainers(self) -> dict[str, ExplainerContract]:
        return {explainer.label: explainer for explainer in self.plan.explainers}

    @cached_property
    def _by_key(self) -> dict[_Key, tuple[Measurement, Measurement]]:
        pairs = zip(self.expected.measurements, self.actual.measurements, strict=True)
        return {_key(one): (one, other) for one, other in pairs}

    def base(self, one: Measurement) -> Tolerance:
        """Return whether only rounding differs."""
        if one.metric in tolerances.METRICS:
            return tolerances.METRICS[one.metric]
        check = self._checks.get(one.check)
        return tolerances.CONTROLS if check is None else tolerances.CHECKS[type(check)]

    def curve(self, one: Measurement, position: int) -> _Curve:
        """The curve of one image, with the step that one point may have moved by."""
        pair = [None if each.curve is None else each.curve.values[position] for each in self._by_key[_key(one)]]
        expected, actual = pair
        if expected is None or actual is None:
            return _Curve((0.0 if expected is actual else math.inf,), (0.0,))
        base = self.base(one)
        off = tuple(_difference(value, measured) for value, measured in zip(expected, actual, strict=True))
        rounding = tuple(base.of(value or 0.0) for value in expected)
        beyond = [place for place, allowed in enumerate(rounding) if off[place] > allowed]
        largest = max((off[place] for place in beyond), default=0.0)
        if one.metric in tolerances.CURVES and len(beyond) == 1:
            (place,) = beyond
            limit = rounding[place] + _largest_step(expected)
            allowed = (*rounding[:place], limit, *rounding[place + 1 :])
            return _Curve(off, allowed, step=min(off[place], limit), largest=largest)
        if one.metric in tolerances.TOP_K:
            allowed = tuple(each + self._pixels(one) * tolerances.TOP_K_PIXEL for each in rounding)
            return _Curve(off, allowed, largest=largest)
        return _Curve(off, rounding, largest=largest)

    def slack(self, one: Measurement, position: int) -> float:
        """What a value may be off by beyond rounding, because a curve behind it is."""
        if one.metric in tolerances.TOP_K:
            source = self._source(one, "top_k_score")
            most = self._pixels(one) * tolerances.TOP_K_PIXEL
            largest = 0.0 if source is None else self.curve(source, position).largest
            return tolerances.TOP_K[one.metric] * min(largest, most)
        moved = 0.0
        for metric in tolerances.CURVES.get(one.metric, ()):
            source = self._source(one, metric)
            if source is not None:
                curve = self.curve(source, position)
                moved += curve.step / max(1, len(curve.off) - 1)
        return moved

    def _source(self, one: Measurement, metric: str) -> Measurement | None:
        pair = self._by_key.get((one.check, one.explainer, metric, one.variant))
        return None if pair is None or pair[0].curve is None else pair[0]

    def _pixels(self, one: Measurement) -> int:
        plateaus = type(self._explainers.get(one.explainer or "")) in tolerances.PLATEAUS
        return tolerances.PLATEAU_PIXELS if plateaus else 1


def _largest_step(row: Sequence[float | None]) -> float:
    pairs = itertools.pairwise(row)
    return max((abs(a - b) for a, b in pairs if a is not None and b is not None), default=0.0)
