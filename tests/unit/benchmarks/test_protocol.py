import pytest

from benchmarks import protocol
from benchmarks.bench import arguments_of
from benchmarks.ideal import Passes, Rates

RATES = Rates(forward=1000.0, gradient=400.0)


def test_projection_adds_what_relevance_costs_beyond_a_gradient() -> None:
    an_image = protocol.Parts(plain=Passes(200, 100), exact=Passes(100, 100), relevance=40)
    plain = 100 / 1000 + 200 / 400
    found = protocol.projected_seconds(an_image, RATES, relevance_cost=3.0, efficiency=0.5, images=10)
    assert found == pytest.approx(10 * (plain + 2 * 40 / 400) / 0.5)
    # relevance as cheap as a gradient costs nothing more
    found = protocol.projected_seconds(an_image, RATES, relevance_cost=1.0, efficiency=1.0, images=1)
    assert found == pytest.approx(plain)


def test_a_faster_precision_applies_only_to_the_plain_model() -> None:
    an_image = protocol.Parts(plain=Passes(200, 100), exact=Passes(100, 100), relevance=40)
    found = protocol.projected_seconds(
        an_image, RATES, relevance_cost=2.0, efficiency=1.0, faster=Rates(4000.0, 800.0), images=1
    )
    assert found == pytest.approx(100 / 4000 + 100 / 800 + 100 / 400 + 40 / 400)


@pytest.mark.parametrize(("relevance", "cost", "efficiency"), [(40, 3.0, 0.0), (40, 0.0, 0.9), (101, 3.0, 0.9)])
def test_projection_refuses_what_makes_no_sense(relevance: int, cost: float, efficiency: float) -> None:
    an_image = protocol.Parts(plain=Passes(200, 100), exact=Passes(100, 100), relevance=relevance)
    with pytest.raises(ValueError, match="efficiency must be"):
        protocol.projected_seconds(an_image, RATES, relevance_cost=cost, efficiency=efficiency, images=10)


def test_a_sample_is_scaled_by_images() -> None:
    assert protocol.scaled(12.0, sample=8) == pytest.approx(750.0)
    with pytest.raises(ValueError, match="got 501"):
        protocol.scaled(12.0, sample=501)


def test_a_projection_is_marked_and_counts_the_papers_passes() -> None:
    found = protocol.projected_for(RATES, relevance_cost=3.0, efficiency=0.85)
    assert found["projection"] is True
    # 3 composites; 6 augmentations with 10 changed levels, and the original
    views = 6 * 10 + 1
    assert found["passes_an_image"]["relevance"] == 3 * views
    assert found["passes_an_image"]["exact"] == {"forward": 5 * views, "backward": 5 * views}
    assert found["passes_an_image"]["plain"]["backward"] == (50 + 1) * views


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
