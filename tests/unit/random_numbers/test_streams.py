from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from auditcore.errors import ShapeError
from auditcore.random_numbers.streams import KeptDraws, Streams

FIRST_RELEASE = [0.79326993, 0.86726159, 0.63890845]

STREAMS = Streams(7, ("sha256:a", "sha256:b", "sha256:c"))


def test_numbers_belong_to_the_image_not_to_the_batch() -> None:
    together = STREAMS.normal((4, 4), "purpose")
    for position in range(3):
        assert torch.equal(STREAMS.take([position]).normal((4, 4), "purpose")[0], together[position])
    assert torch.equal(STREAMS.take([2, 0]).normal((4, 4), "purpose"), together[[2, 0]])


def test_views_go_with_their_images() -> None:
    viewed = STREAMS.viewing(["one", "two", "three"])
    assert torch.equal(viewed.take([2, 0]).normal((4,), "purpose"), viewed.normal((4,), "purpose")[[2, 0]])


def test_seed_image_view_purpose_and_index_all_matter() -> None:
    base = STREAMS.uniform((8,), "purpose", 0)[0]
    others = [
        Streams(8, STREAMS.digests).uniform((8,), "purpose", 0)[0],
        STREAMS.uniform((8,), "purpose", 0)[1],
        STREAMS.viewing(["rotate=1.0"] * 3).uniform((8,), "purpose", 0)[0],
        STREAMS.uniform((8,), "other", 0)[0],
        STREAMS.uniform((8,), "purpose", 1)[0],
    ]
    assert all(not torch.equal(base, other) for other in others)
    assert torch.equal(base, Streams(7, STREAMS.digests).uniform((8,), "purpose", 0)[0])


def test_values_are_those_of_the_first_release() -> None:
    # a seed must mean the same numbers in a year
    drawn = Streams(0, ("sha256:0",)).uniform((3,), "stable")[0].numpy()
    np.testing.assert_allclose(drawn, FIRST_RELEASE, rtol=1e-6)


def test_distributions_are_correct() -> None:
    normal = STREAMS.normal((4000,), "n").numpy().ravel()
    uniform = STREAMS.uniform((4000,), "u").numpy().ravel()
    assert scipy.stats.kstest(normal, "norm").pvalue > 0.001
    assert scipy.stats.kstest(uniform, "uniform").pvalue > 0.001


def test_views_must_match_the_images() -> None:
    with pytest.raises(ShapeError, match="3 views"):
        STREAMS.viewing(["only one"])


def test_threads_draw_the_same_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(3, tuple("abcde"))
    shape = (3, 200, 200)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        together = streams.normal(shape, "x"), streams.uniform(shape, "x", 1)
        torch.set_num_threads(1)
        monkeypatch.setattr("auditcore.random_numbers.streams._threads", None)  # no pool of threads
        alone = streams.normal(shape, "x"), streams.uniform(shape, "x", 1)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(*pair) for pair in zip(together, alone, strict=True))


def test_each_image_can_have_a_draw_of_its_own() -> None:
    streams = Streams(3, ("a", "b", "a"), ("x", "y", "z"))
    for draw in (streams.normal, streams.uniform):
        together = draw((4, 2), "noise", [5, 0, 7])
        for position, index in enumerate((5, 0, 7)):
            own = Streams(3, streams.digests[position : position + 1], streams.views[position : position + 1])
            alone = (
                own.normal((4, 2), "noise", index) if draw == streams.normal else own.uniform((4, 2), "noise", index)
            )
            assert torch.equal(together[position], alone[0])


def test_draws_must_match_the_images() -> None:
    with pytest.raises(ShapeError):
        Streams(3, ("a", "b")).normal((2,), "noise", [1])


def test_copies_with_common_noise_draw_the_numbers_of_their_originals_and_can_be_separated() -> None:
    views = ["rotate=1", "rotate=2", "rotate=3"]
    sharing = STREAMS.sharing(views)
    for draw in (Streams.normal, Streams.uniform):
        assert torch.equal(draw(sharing, (4,), "noise", 2), draw(STREAMS, (4,), "noise", 2))
        apart = draw(sharing.apart, (4,), "noise", 2)
        assert torch.equal(apart, draw(STREAMS.viewing(views), (4,), "noise", 2))
        assert not torch.equal(apart, draw(STREAMS, (4,), "noise", 2))
    assert sharing.generator(1, "coalitions").integers(2**60) == STREAMS.generator(1, "coalitions").integers(2**60)
    taken = sharing.take([2, 0])
    assert (taken.copies, taken.digests) == (("rotate=3", "rotate=1"), ("sha256:c", "sha256:a"))
    # what a method names itself, such as the samples of a noise tunnel, belongs to the original too
    assert torch.equal(
        taken.viewing(["s"] * 2).normal((3,), "x"), STREAMS.take([2, 0]).viewing(["s"] * 2).normal((3,), "x")
    )
    assert STREAMS.apart is STREAMS
    with pytest.raises(ShapeError, match="3 views"):
        STREAMS.sharing(["only one"])


def test_cached_numbers_are_those_that_would_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptDraws()
    sharing = STREAMS.sharing(["one", "two", "three"], kept)
    first = sharing.normal((4, 2), "noise", 3)
    draws = {"normal": sharing.normal, "uniform": sharing.uniform}
    for law, draw in draws.items():
        for shape in ((4, 2), (8,)):
            expected = getattr(STREAMS, law)(shape, "noise", 3)
            assert torch.equal(draw(shape, "noise", 3), expected)
            assert torch.equal(draw(shape, "noise", 3), expected)
    monkeypatch.setattr("auditcore.random_numbers.streams._DRAWS", {})  # nothing is drawn twice
    again = sharing.take([1, 1, 0]).normal((4, 2), "noise", 3)
    assert torch.equal(again, first[[1, 1, 0]])
    # what a method does to the numbers it was given stays its own
    again.zero_()
    assert torch.equal(sharing.normal((4, 2), "noise", 3), first)
    # a copy's own numbers are not kept, because they are not drawn again
    with pytest.raises(KeyError):
        sharing.apart.normal((4, 2), "noise", 3)


def test_the_oldest_numbers_are_evicted_and_too_many_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptDraws(limit_bytes=3 * 4 * 5)
    sharing = Streams(1, ("a",)).sharing(["copy"], kept)
    for index in range(3):
        sharing.normal((5,), "noise", index)
    sharing.normal((5,), "noise", 0)  # drawn again: 1 is the oldest now
    sharing.normal((5,), "noise", 3)
    sharing.normal((16,), "noise", 0)
    monkeypatch.setattr("auditcore.random_numbers.streams._DRAWS", {})
    for index in (0, 2, 3):
        assert torch.equal(sharing.normal((5,), "noise", index), sharing.normal((5,), "noise", index))
    for shape, index in (((5,), 1), ((16,), 0)):
        with pytest.raises(KeyError):
            sharing.normal(shape, "noise", index)
