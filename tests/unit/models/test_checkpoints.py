"""From the checkpoints of trainers, the set of weights that fits is loaded, and the report says which one."""

from __future__ import annotations

import argparse
import collections
import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import Tensor, nn

import digits
import prediction_only
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.errors import InputError, InvalidRequest, ModelNotLoadable
from auditcore.models.classifier import Classifier
from auditcore.models.loaders.checkpoints import fill
from auditcore.models.loading import load_classifier

RAW = digits.trained().state_dict()


def below(prefix: str, state: dict[str, Tensor] = RAW) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


@pytest.fixture(scope="module")
def averaged() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return digits.build().state_dict()


def loaded(content: object, folder: Path, entry: str | None = None) -> Classifier:
    path = folder / "checkpoint.ckpt"
    torch.save(content, path)
    model = digits.reference(path)
    reference = model.model_copy(update={"weights": Weights(uri=path.as_uri(), entry=entry)})
    return load_classifier(reference, access=digits.access(folder))


def holds(classifier: Classifier, state: dict[str, Tensor]) -> bool:
    found = classifier.module.state_dict()
    return all(torch.equal(found[name], value) for name, value in state.items())


def refused(content: object, folder: Path, entry: str | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        loaded(content, folder, entry)
    return caught.value


class Meter:
    """What a training script may keep beside the weights."""

    def __init__(self) -> None:
        self.best = np.float64(0.9)


class Scope(dict):  # type: ignore[type-arg]  # a pickle names the class itself
    """A dictionary of a class of its own."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (RAW, None),
        ({**RAW, "epoch": 3}, None),
        (below("module."), "prefix 'module.'"),
        ({"state_dict": below("model."), "pytorch-lightning_version": "2.4.0"}, "prefix 'model.'"),
        ({"state_dict": {**below("net."), "loss.pos_weight": torch.ones(1)}}, "1 tensors .* left out .loss.pos_weight"),
        ({"n_averaged": torch.tensor(3), **below("module.")}, "left out .n_averaged"),
        (below("_orig_mod.module."), "marks of torch.compile .* prefix 'module.'|prefix 'module.' .* marks"),
        (below("backbone.") | {"backbone.total_ops": torch.zeros(1)}, "prefix 'backbone.' .* left out .total_ops"),
        ({"net": RAW, "epoch": 3}, "read from 'net'"),
        ({"run": {"models": [{"weights": RAW}]}}, "read from 'run/models/0/weights'"),
        ({"state_dict": RAW, "args": argparse.Namespace(lr=0.1), "meter": Meter()}, "read from 'state_dict'"),
        ({"model": RAW, "best": np.float64(0.9), "history": np.arange(3)}, "read from 'model'"),
        (Scope(student=RAW), "read from 'student'"),
        (collections.OrderedDict(below("module.model.")), "prefix 'module.model.'"),
        ({"state_dict": RAW, "optimizer": torch.optim.SGD(nn.Linear(2, 2).parameters()).state_dict()}, "state_dict"),
        ({"model": digits.trained(), "epoch": 3}, "read from 'model'"),
        ({"a": RAW, "b": copy.deepcopy(RAW)}, "read from 'a'"),
    ],
)
def test_what_trainers_write_gives_the_weights_of_the_model(content: object, said: str | None, tmp_path: Path) -> None:
    classifier = loaded(content, tmp_path)
    assert holds(classifier, RAW)
    if said is None:
        assert classifier.notes == ()
    else:
        (note,) = classifier.notes
        assert re.search(said, note), note


def test_a_compiled_layer_inside_the_model_is_found(tmp_path: Path) -> None:
    state = {name.replace("inner.", "inner._orig_mod."): value for name, value in RAW.items()}
    assert holds(loaded(state, tmp_path), RAW)


def test_parallel_and_averaged_models_of_pytorch_itself(tmp_path: Path) -> None:
    model = digits.trained()
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    for wrapped in (nn.DataParallel(model), average, torch.compile(model)):
        assert holds(loaded(wrapped.state_dict(), tmp_path), RAW)


def test_raw_and_averaged_weights_are_chosen_by_name(averaged: dict[str, Tensor], tmp_path: Path) -> None:
    content = {"state_dict": RAW, "state_dict_ema": averaged}
    error = refused(content, tmp_path)
    assert isinstance(error, InvalidRequest)
    assert error.field == "model.weights.entry"
    assert "state_dict, state_dict_ema" in error.message
    assert holds(loaded(content, tmp_path, "state_dict"), RAW)
    chosen = loaded(content, tmp_path, "state_dict_ema")
    assert holds(chosen, averaged)
    assert "'state_dict_ema'" in chosen.notes[0]


def test_both_sets_may_be_in_one_mapping(averaged: dict[str, Tensor], tmp_path: Path) -> None:
    content = {"state_dict": {**below("model."), **below("ema.module.", averaged)}}
    assert "state_dict/model., state_dict/ema.module." in refused(content, tmp_path).message
    assert holds(loaded(content, tmp_path, "state_dict/ema.module."), averaged)
    content = {**RAW, **below("ema_model.", averaged)}  # type: ignore[dict-item]
    assert "., ema_model." in refused(content, tmp_path).message
    assert holds(loaded(content, tmp_path, "ema_model."), averaged)


@pytest.mark.parametrize(
    ("beside", "name"),
    [
        # parameters without buffers; a list without names; names without dots; a pickled module
        ({"ema": {name: value for name, value in RAW.items() if "running" not in name}}, "ema"),
        ({"ema": {"decay": 0.9, "shadow_params": list(digits.trained().parameters())}}, "ema/shadow_params"),
        ({"callbacks": {"EMACallback": {"w": torch.ones(2, 2)}}}, "callbacks/EMACallback"),
        ({"callbacks": {"StochasticWeightAveraging": {"w": torch.ones(2, 2)}}}, "StochasticWeightAveraging"),
    ],
)
def test_averages_that_do_not_fit_keep_raw_weights_from_being_taken_silently(
    beside: dict[str, Any], name: str, tmp_path: Path
) -> None:
    content = {"model": RAW, **beside}
    error = refused(content, tmp_path)
    assert error.field == "model.weights.entry"
    assert name in error.message
    assert "'model'" in error.message
    assert holds(loaded(content, tmp_path, "model"), RAW)


def test_tensors_without_names_are_refused(tmp_path: Path) -> None:
    content = {"model": RAW, "ema": {"shadow_params": list(digits.trained().parameters())}}
    error = refused(content, tmp_path, "ema/shadow_params")
    assert isinstance(error, ModelNotLoadable)
    assert "have no names" in error.message


def test_layers_are_not_left_out_silently(tmp_path: Path) -> None:
    content = {**below("backbone."), "head.weight": torch.ones(4, 4)}
    error = refused(content, tmp_path)
    assert "head.weight" in error.message
    assert "'backbone.'" in error.message
    assert holds(loaded(content, tmp_path, "backbone."), RAW)


def test_a_prefix_is_kept_where_not_everything_fits_without_it(tmp_path: Path) -> None:
    partial = {f"model.{name}": value for name, value in RAW.items() if name != "head.bias"}
    error = refused(partial, tmp_path)
    assert isinstance(error, ModelNotLoadable)
    assert "1 missing: head.bias" in error.message
    extra = below("model.") | {"model.head2.weight": torch.ones(2, 2)}
    assert "1 unexpected: head2.weight" in refused(extra, tmp_path).message


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int32, torch.bool, torch.complex64])
def test_integers_are_no_weights(kind: torch.dtype, tmp_path: Path) -> None:
    state = {**RAW, "head.weight": (RAW["head.weight"] * 100).to(kind)}
    error = refused(state, tmp_path)
    assert isinstance(error, ModelNotLoadable)
    assert f"head.weight is {str(kind).removeprefix('torch.')} instead of float32" in error.message
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    with pytest.raises(ModelNotLoadable, match="instead of float32"):
        load_classifier(digits.reference(path), access=digits.access(tmp_path))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_precisions_are_weights(kind: torch.dtype, tmp_path: Path) -> None:
    state = {name: value.to(kind) if value.is_floating_point() else value for name, value in RAW.items()}
    assert holds(loaded(state, tmp_path), {name: value.to(torch.float32) for name, value in state.items()})


def test_names_that_are_not_there_are_listed(averaged: dict[str, Tensor], tmp_path: Path) -> None:
    content = {"a": RAW, "b": averaged}
    error = refused(content, tmp_path, "ema")
    assert error.field == "model.weights.entry"
    assert "one of: a, b" in error.message
    model = FactoryModel.model_validate(digits.reference(tmp_path / "x").model_dump())
    drawn = model.model_copy(update={"weights": Weights(uri="random:1", entry="a")})
    with pytest.raises(InvalidRequest, match="leave entry out"):
        load_classifier(drawn, access=digits.access(tmp_path))


def test_a_choice_fits_in_any_order_of_the_file() -> None:
    """The set that fits does not depend on where it is."""
    for content in ({"x": below("m."), "y": {"w": torch.ones(2)}}, {"y": {"w": torch.ones(2)}, "x": below("m.")}):
        module = digits.build()
        fill(module, content, field="model.weights.uri")
        assert all(torch.equal(module.state_dict()[name], value) for name, value in RAW.items())


def test_the_report_says_what_was_done_to_the_names(tmp_path: Path) -> None:
    torch.save({"state_dict": below("model.")}, tmp_path / "c.pth")
    report = prediction_only.audited(
        digits.reference(tmp_path / "c.pth"),
        digits.access(tmp_path),
        explainers=[{"kind": "random"}],
        checks=[{"kind": "complexity"}],
    )
    said = (
        "names of the weights in the checkpoint: they were read from 'state_dict', and the prefix 'model.' was removed"
    )
    assert [note for note in report.notes if note.startswith(said)]


@pytest.mark.parametrize("change", [Tensor.to_sparse, lambda value: value.to("meta")], ids=["sparse", "meta"])
def test_tensors_without_values_of_their_own_do_not_fit(change: Any) -> None:
    module = nn.Linear(3, 2)
    state = module.state_dict()
    state["weight"] = change(state["weight"])
    with pytest.raises(ModelNotLoadable, match=r"1 sparse or without values: weight"):
        fill(module, state, field="model.weights.uri")


class Sharing(nn.Module):
    """A layer with two names, and one that shares its weight with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.head = nn.Linear(3, 3)
        self.head.weight = self.first.weight


def test_of_layers_that_share_values_one_is_stored(tmp_path: Path) -> None:
    saved = Sharing()
    save_model(saved, str(tmp_path / "model.safetensors"))
    content = load_file(tmp_path / "model.safetensors")
    assert len(content) < len(saved.state_dict())
    found = Sharing()
    fill(found, content, field="model.weights.uri")
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in found.state_dict().items())
    del content["head.bias"]
    with pytest.raises(ModelNotLoadable, match=r"1 missing: head\.bias"):
        fill(found, content, field="model.weights.uri")


def test_values_that_differ_do_not_become_shared() -> None:
    content = {**Sharing().state_dict(), "head.weight": torch.zeros(3, 3)}
    with pytest.raises(ModelNotLoadable, match=r"share their values .* and not in the file: head\.weight"):
        fill(Sharing(), content, field="model.weights.uri")


class Labelled(Tensor):
    """A tensor of a class of its own, as libraries for images have."""


@pytest.mark.parametrize("whole", [True, False])
def test_attributes_and_classes_of_tensors_are_left_out(tmp_path: Path, *, whole: bool) -> None:
    module = digits.build()
    module.load_state_dict(RAW)
    for value in module.parameters():
        value.no_weight_decay = True  # type: ignore[attr-defined]
    content = module if whole else {name: value.as_subclass(Labelled) for name, value in RAW.items()}
    assert holds(loaded(content, tmp_path), RAW)


def test_a_model_wrapped_for_several_devices_takes_weights_of_either_name() -> None:
    for content in (RAW, below("module.")):
        wrapped = nn.DataParallel(digits.build())
        fill(wrapped, content, field="model.weights.uri")
        assert all(torch.equal(value, RAW[name]) for name, value in wrapped.module.state_dict().items())
