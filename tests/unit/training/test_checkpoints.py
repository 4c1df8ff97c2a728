"""Checkpoints: read back as written, and refused when they are damaged or of another training."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import small_trainings
from auditcore import Mixup
from auditcore.errors import CheckpointInvalid
from auditcore.training.checkpoints import History, read_checkpoint, write_checkpoint

DIGEST = f"sha256:{1:064d}"
PARTS = {"weights": {"a.b": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}, "method": {"x/y": torch.ones(1)}}
HISTORY = History(training=DIGEST, step=4, losses=1.5, facts={"added": 0.25}, seconds=2.0)
DATA = write_checkpoint(HISTORY, PARTS)


def test_what_is_read_is_what_was_written() -> None:
    history, parts = read_checkpoint(DATA, training=DIGEST)
    assert history == HISTORY
    assert {part: sorted(values) for part, values in parts.items()} == {"weights": ["a.b", "n"], "method": ["x/y"]}
    assert all(torch.equal(parts[part][name], value) for part, all_ in PARTS.items() for name, value in all_.items())


def test_the_same_state_gives_the_same_bytes() -> None:
    assert write_checkpoint(HISTORY, PARTS) == DATA


@given(st.integers(0, len(DATA) - 1))
@settings(max_examples=50)
def test_a_checkpoint_that_ends_early_is_refused(size: int) -> None:
    with pytest.raises(CheckpointInvalid, match="damaged"):
        read_checkpoint(DATA[:size], training=DIGEST)


def test_a_file_of_weights_is_no_checkpoint() -> None:
    import safetensors.torch  # noqa: PLC0415 - only here

    with pytest.raises(CheckpointInvalid, match="damaged"):
        read_checkpoint(safetensors.torch.save({"a": torch.ones(2)}), training=DIGEST)


def test_the_checkpoint_of_another_training_is_refused() -> None:
    first = small_trainings.run(small_trainings.request())
    checkpoint = first.advance(enough=lambda: True).checkpoint
    for other in (small_trainings.request(seed=1), small_trainings.request(Mixup())):
        with pytest.raises(CheckpointInvalid, match="another training"):
            small_trainings.run(other).resume(checkpoint)
    with pytest.raises(CheckpointInvalid, match="another training"):
        small_trainings.run(small_trainings.request(), count=40).resume(checkpoint)


def test_a_checkpoint_without_the_weights_of_the_model_is_refused() -> None:
    training = small_trainings.run(small_trainings.request())
    with pytest.raises(CheckpointInvalid, match="does not fit the model"):
        training.resume(write_checkpoint(History(training=training.digest), {"weights": {"a": torch.ones(1)}}))
