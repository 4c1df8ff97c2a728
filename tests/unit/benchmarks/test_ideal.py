import pytest

from benchmarks.ideal import Passes, Rates, around, drifted, engine_efficiency, ideal_seconds

RATES = Rates(forward=100.0, gradient=40.0)


def test_every_backward_pass_takes_its_forward_pass_along() -> None:
    # 30 forward passes at 100 per second, 10 gradients at 40 per second
    assert ideal_seconds(Passes(forward=40, backward=10), RATES) == pytest.approx(0.3 + 0.25)
    assert ideal_seconds(Passes(40, 10), RATES, "gradient") == ideal_seconds(Passes(40, 10), RATES)


def test_grad_cam_owes_no_backward_pass() -> None:
    assert ideal_seconds(Passes(40, 10), RATES, "forward") == pytest.approx(0.4)


def test_an_audit_that_costs_what_its_passes_cost_has_efficiency_one() -> None:
    passes = Passes(forward=50, backward=20)
    assert engine_efficiency(passes, RATES, seconds=0.8) == pytest.approx(1.0)
    assert engine_efficiency(passes, RATES, seconds=1.6) == pytest.approx(0.5)


def test_speed_around_a_row_is_the_mean_of_times_not_of_speeds() -> None:
    # a pass took 10 ms before and 30 ms after: 20 ms
    between = around(Rates(100.0, 10.0), Rates(100 / 3, 10.0))
    assert between.forward == pytest.approx(50.0)
    assert between.gradient == pytest.approx(10.0)


def test_backward_passes_without_forward_passes_are_refused() -> None:
    with pytest.raises(ValueError, match="3 forward, 4 backward"):
        ideal_seconds(Passes(3, 4), RATES)


def test_a_module_drifts_as_the_other_does() -> None:
    found = drifted(scanned=Rates(200.0, 60.0), reference=Rates(100.0, 40.0), now=Rates(50.0, 60.0))
    assert found == Rates(100.0, 90.0)
