"""From a reference to a classifier, and every way in which that is refused."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_type_hints

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import digits
from auditcore.contracts.access import AccessRules
from auditcore.contracts.model_reference import ModelReference
from auditcore.contracts.models import DemoModel, FactoryModel, TimmModel, TorchvisionModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import (
    DigestMismatch,
    InputError,
    InvalidRequest,
    LimitExceeded,
    ModelNotLoadable,
    ModelOutputInvalid,
    NonFiniteWeights,
    UnreachableResource,
    UnsafeReference,
)
from auditcore.models.loading import load_classifier, loader_of
from auditcore.sources.registry import SOURCES

SMALL = Preprocessing(resize=32, crop=32)
RANDOM = Weights(uri="random:3")


def broken(answer: str) -> nn.Module:
    """Factory target: a model whose output is of no use."""

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> object:
            return {
                "features": x,
                "list": [x, x.mean((1, 2, 3))],
                "single": x.mean((2, 3))[:, :1],
                "infinite": x.mean((2, 3)) / 0,
                "crash": lambda: None,
            }[answer]

    if answer == "raise":
        msg = "no such answer"
        raise KeyError(msg)
    return Broken() if answer != "object" else object()  # type: ignore[return-value]


def factory(target: str, *args: str, weights: Weights = RANDOM) -> FactoryModel:
    return FactoryModel(target=target, args=args, weights=weights, preprocessing=SMALL)


def allowing(*factories: str, folder: Path | None = None, **rules: Any) -> AccessRules:
    return AccessRules(factories=factories, file_roots=() if folder is None else (folder,), **rules)


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_every_record_names_the_loader_of_its_contract() -> None:
    for contract, record in SOURCES.items():
        assert get_type_hints(loader_of(record))["reference"] is contract


# --- what loads ------------------------------------------------------------------------------------


def test_the_demo_model_needs_no_permission() -> None:
    classifier = load_classifier(DemoModel(), access=AccessRules(factories=(), packages=()))
    assert (classifier.classes, classifier.trained, classifier.shape) == (1000, True, (3, 224, 224))
    assert classifier.convolutions[-1] == "_conv_head"


def test_torchvision_builds_any_number_of_classes_without_touching_global_randomness() -> None:
    torch.manual_seed(123)
    state = torch.random.get_rng_state()
    reference = TorchvisionModel(name="resnet18", classes=7, weights=RANDOM, preprocessing=SMALL)
    first = load_classifier(reference, access=AccessRules())
    second = load_classifier(reference, access=AccessRules())
    other = reference.model_copy(update={"weights": Weights(uri="random:4")})
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (first.classes, first.trained) == (7, False)
    assert first.digest == second.digest != load_classifier(other, access=AccessRules()).digest


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvision_models_with_extra_heads_load_quietly(name: str) -> None:
    preprocessing = Preprocessing(resize=96, crop=96)
    reference = TorchvisionModel(name=name, weights=RANDOM, preprocessing=preprocessing)
    assert load_classifier(reference, access=AccessRules()).classes == 1000


def test_timm_brings_its_own_preprocessing() -> None:
    classifier = load_classifier(TimmModel(name="resnet18.a1_in1k", weights=RANDOM), access=AccessRules())
    assert classifier.preprocessing == Preprocessing(resize=235, crop=224, interpolation="bicubic")
    given = TimmModel(name="resnet18", weights=RANDOM, preprocessing=SMALL, classes=5)
    assert load_classifier(given, access=AccessRules()).classes == 5


def _plain(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path)


def _legacy(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def _wrapped(state: dict[str, Tensor], path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)


@pytest.mark.parametrize("save", [save_file, _plain, _legacy, _wrapped])
def test_every_format_gives_the_same_model(save: Callable[[Any, Any], None], tmp_path: Path) -> None:
    # without a telling name: the format is recognized by content
    path = tmp_path / "weights"
    save(digits.trained().state_dict(), path)
    reference = digits.reference(path).model_copy(
        update={"weights": Weights(uri=path.as_uri(), sha256=digest_of(path))}
    )
    classifier = load_classifier(reference, access=digits.access(tmp_path))
    assert classifier.trained
    pixels, _ = digits.digit_pixels()
    with torch.no_grad():
        expected = digits.trained()(classifier.normalize(pixels[:4]))
    torch.testing.assert_close(classifier.logits(pixels[:4]), expected)


def test_uploaded_weights_are_read_by_digest(tmp_path: Path) -> None:
    path = digits.write_weights(tmp_path)
    digest = digest_of(path)
    reference = digits.reference(path).model_copy(update={"weights": Weights(uri=f"blob:{digest}")})
    blobs = {digest: path.read_bytes()}
    classifier = load_classifier(reference, access=allowing("digits:build"), blobs=blobs.__getitem__)
    assert classifier.digest == load_classifier(digits.reference(path), access=digits.access(tmp_path)).digest


# --- what does not ---------------------------------------------------------------------------------


def refused(reference: ModelReference, error: type[InputError], access: AccessRules, match: str) -> str:
    """The field that the refusal names."""
    with pytest.raises(error, match=match) as caught:
        load_classifier(reference, access=access)
    assert type(caught.value) is error
    return caught.value.field


def test_unknown_names_are_answered_with_near_ones() -> None:
    torchvision_model = TorchvisionModel(name="resnet19", weights=RANDOM)
    assert refused(torchvision_model, InvalidRequest, AccessRules(), "did you mean 'resnet18'") == "model.name"
    timm_model = TimmModel(name="resnet19", weights=RANDOM)
    assert refused(timm_model, InvalidRequest, AccessRules(), "did you mean 'resnet18'") == "model.name"
    tag = TimmModel(name="resnet18.nope", weights=RANDOM)
    assert refused(tag, ModelNotLoadable, AccessRules(), "Invalid pretrained tag") == "model.name"


def test_a_detector_is_not_a_classifier() -> None:
    reference = TorchvisionModel(name="fasterrcnn_resnet50_fpn", weights=RANDOM)
    assert refused(reference, InvalidRequest, AccessRules(), "no classifier") == "model.name"


@pytest.mark.parametrize("seed", ["", "x", "-1", "1.5", "9" * 30])
def test_a_seed_must_be_a_number(seed: str) -> None:
    reference = TorchvisionModel(name="resnet18", weights=Weights(uri=f"random:{seed}"))
    assert refused(reference, InvalidRequest, AccessRules(), "need a seed") == "model.weights.uri"


def test_random_weights_have_no_digest() -> None:
    weights = Weights(uri="random:1", sha256=f"sha256:{'0' * 64}")
    reference = TorchvisionModel(name="resnet18", weights=weights)
    assert refused(reference, InvalidRequest, AccessRules(), "leave sha256 out") == "model.weights.sha256"


def test_only_allowed_factories_are_imported() -> None:
    reference = factory("os:getcwd")
    assert refused(reference, UnsafeReference, AccessRules(), "is not allowed") == "model.target"


@pytest.mark.parametrize(
    ("target", "match"),
    [
        ("no_such_package:build", "cannot be imported"),
        ("digits:no_such_function", "cannot be imported"),
        ("digits:SIDE", "is not callable"),
    ],
)
def test_a_factory_that_is_not_there(target: str, match: str) -> None:
    assert refused(factory(target), ModelNotLoadable, allowing(target), match) == "model.target"


BROKEN = "broken_factories:broken"


@pytest.mark.parametrize(
    ("answer", "error", "match", "field"),
    [
        ("raise", ModelNotLoadable, "failed with these arguments: KeyError", "model.args"),
        ("object", ModelNotLoadable, r"must return a torch\.nn\.Module, got object", "model.target"),
        ("features", ModelOutputInvalid, r"returned shape \(2, 3, 32, 32\)", "model"),
        ("list", ModelOutputInvalid, "must return one tensor of logits, got list", "model.select"),
        ("infinite", ModelOutputInvalid, "NaN or infinite logits", "model"),
        ("unknown", ModelOutputInvalid, "cannot process an input of shape", "model.preprocessing"),
    ],
)
def test_a_factory_whose_product_cannot_be_used(
    answer: str, error: type[InputError], match: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # factories are imported by name, and test files are no packages
    monkeypatch.setitem(sys.modules, "broken_factories", cast("types.ModuleType", SimpleNamespace(broken=broken)))
    assert refused(factory(BROKEN, answer), error, allowing(BROKEN), match) == field


def with_weights(path: Path, sha256: str | None = None) -> FactoryModel:
    return factory("digits:build", weights=Weights(uri=path.as_uri(), sha256=sha256))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('usage: train.py --data DATA')", "SystemExit: usage"),
        ("open('weights/config.yaml')", "FileNotFoundError"),
        ("def build(:", "SyntaxError"),
    ],
)
def test_a_module_that_fails_when_it_is_imported(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script_of_a_team.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    target = "script_of_a_team:build"
    assert refused(factory(target), ModelNotLoadable, allowing(target), said) == "model.target"


def test_a_wrong_digest_is_found_before_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(print))
    reference = with_weights(path, f"sha256:{'0' * 64}")
    access = allowing("digits:build", folder=tmp_path)
    with pytest.raises(DigestMismatch) as caught:
        load_classifier(reference, access=access)
    assert caught.value.actual == digest_of(path)


def test_a_missing_file(tmp_path: Path) -> None:
    access = allowing("digits:build", folder=tmp_path)
    field = refused(with_weights(tmp_path / "none.pth"), UnreachableResource, access, "none.pth")
    assert field == "model.weights.uri"


def test_a_large_file(tmp_path: Path) -> None:
    path = digits.write_weights(tmp_path)
    access = allowing("digits:build", folder=tmp_path, limits={"weights_bytes": 100})
    assert refused(with_weights(path), LimitExceeded, access, "bytes") == "model.weights.uri"


class Bomb:
    """A pickle that would call `print` when opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_with_more_than_tensors_is_refused_unread(
    legacy: bool,  # noqa: FBT001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model.pth"
    torch.save({"state_dict": Bomb()}, path, _use_new_zipfile_serialization=not legacy)
    access = allowing("digits:build", folder=tmp_path)
    assert refused(with_weights(path), UnsafeReference, access, "could run code") == "model.weights.uri"
    assert "executed" not in capsys.readouterr().out


def test_a_plain_pickle_is_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(Bomb()))
    access = allowing("digits:build", folder=tmp_path)
    assert refused(with_weights(path), UnsafeReference, access, "could run code") == "model.weights.uri"
    assert "executed" not in capsys.readouterr().out


def test_of_a_pickled_model_only_the_weights_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    model = digits.trained()
    torch.save(model, path)
    access = allowing("digits:build", folder=tmp_path)
    loaded = load_classifier(with_weights(path), access=access)
    assert loaded.digest == load_classifier(digits.reference(digits.write_weights(tmp_path)), access=access).digest
    torch.save(torchvision.models.squeezenet1_1(), path)
    assert refused(with_weights(path), ModelNotLoadable, access, "do not fit") == "model.weights.uri"


def torchscript(path: Path) -> None:
    """What `torch.jit.save` writes, as far as it tells such a file apart: tracing is deprecated and would warn."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"model/{name}", b"")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torchscript(path)
    access = allowing("digits:build", folder=tmp_path)
    assert refused(with_weights(path), UnsafeReference, access, "TorchScript") == "model.weights.uri"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model at all",
        b"PK\x03\x04 truncated",
        b"\x10\x00\x00\x00\x00\x00\x00\x00{broken json....",
        b"\x80\x02 truncated pickle",
    ],
)
def test_a_damaged_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    access = allowing("digits:build", folder=tmp_path)
    with pytest.raises((ModelNotLoadable, UnsafeReference)) as caught:
        load_classifier(with_weights(path), access=access)
    assert caught.value.field == "model.weights.uri"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5, as Keras writes it"),
        (gzip.compress(b"weights", mtime=0), "compressed by gzip"),
        (b"\x93NUMPY" + bytes(99), "an array of NumPy"),
        (b"a line of text", "neither safetensors nor a PyTorch state dict"),
    ],
)
def test_a_file_of_another_program_is_told_apart(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    access = allowing("digits:build", folder=tmp_path)
    assert refused(with_weights(path), ModelNotLoadable, access, said) == "model.weights.uri"


def test_an_archive_around_weights_is_told_apart(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", kernel=np.ones(3))
    access = allowing("digits:build", folder=tmp_path)
    said = "a zip archive with 'kernel.npy' and not of PyTorch"
    assert refused(with_weights(tmp_path / "weights.npz"), ModelNotLoadable, access, said) == "model.weights.uri"


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, torch.zeros(3)])
def test_a_file_without_a_state_dict(content: object, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    access = allowing("digits:build", folder=tmp_path)
    assert refused(with_weights(path), ModelNotLoadable, access, "holds no state dict") == "model.weights.uri"


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    state = digits.trained().state_dict()
    state["head.weight"] = state["head.weight"][:5].clone()
    state["extra"] = torch.zeros(1)
    del state["down.bias"]
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    access = allowing("digits:build", folder=tmp_path)
    match = r"1 missing: down\.bias; 1 unexpected: extra; 1 of another shape: head\.weight is \(5, 64\) instead of"
    assert refused(with_weights(path), ModelNotLoadable, access, match) == "model.weights.uri"


def test_batch_counters_may_be_missing(tmp_path: Path) -> None:
    state = {name: value for name, value in digits.trained().state_dict().items() if "num_batches" not in name}
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    assert load_classifier(with_weights(path), access=allowing("digits:build", folder=tmp_path)).trained


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, tmp_path: Path) -> None:
    state = digits.trained().state_dict()
    state["stem.1.running_var"] = torch.full_like(state["stem.1.running_var"], value)
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    access = allowing("digits:build", folder=tmp_path)
    match = r"'stem\.1\.running_var' holds NaN or infinite"
    assert refused(with_weights(path), NonFiniteWeights, access, match) == "model.weights"
