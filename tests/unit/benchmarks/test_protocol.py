import pytest

from benchmarks import protocol
from benchmarks.bench import arguments_of
from benchmarks.ideal import Passes, Rates
from benchmarks.subjects import photos

RATES = Rates(forward=1000.0, gradient=400.0)


def test_projection_adds_what_relevance_costs_beyond_a_gradient() -> None:
    an_image = Passes(forward=300, backward=200)
    plain = 100 / 1000 + 200 / 400
    found = protocol.projected_seconds(an_image, 40, RATES, relevance_cost=3.0, efficiency=0.5, images=10)
    assert found == pytest.approx(10 * (plain + 2 * 40 / 400) / 0.5)
    # relevance as cheap as a gradient costs nothing more
    found = protocol.projected_seconds(an_image, 40, RATES, relevance_cost=1.0, efficiency=1.0, images=1)
    assert found == pytest.approx(plain)


@pytest.mark.parametrize(("relevance", "cost", "efficiency"), [(40, 3.0, 0.0), (40, 0.0, 0.9), (201, 3.0, 0.9)])
def test_projection_refuses_what_makes_no_sense(relevance: int, cost: float, efficiency: float) -> None:
    with pytest.raises(ValueError, match="efficiency must be"):
        protocol.projected_seconds(
            Passes(300, 200), relevance, RATES, relevance_cost=cost, efficiency=efficiency, images=10
        )


def test_a_sample_is_scaled_by_images() -> None:
    assert protocol.scaled(12.0, sample=8) == pytest.approx(750.0)
    with pytest.raises(ValueError, match="got 501"):
        protocol.scaled(12.0, sample=501)


def test_a_projection_says_so_and_counts_the_papers_passes() -> None:
    found = protocol.projected_for(RATES, photos(1), relevance_cost=3.0, efficiency=0.85)
    assert found["projection"] is True
    # 3 composites; 6 families with 10 changed levels, and the original
    assert found["relevance_passes_an_image"] == 3 * (6 * 10 + 1)


def test_an_absent_card_is_an_error_that_names_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as left:
        arguments_of(["--device", "cuda"])
    assert left.value.code == 2
    assert "no CUDA device" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments_of(["--project"])
    assert "--card-forward" in capsys.readouterr().err
