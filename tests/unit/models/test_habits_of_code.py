"""Models whose code was left as other tools and trainings leave it: they run here as they run in PyTorch."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from auditcore.contracts.access import AccessRules
from auditcore.contracts.models import FactoryModel, Weights
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import ModelNotLoadable, ModelOutputInvalid
from auditcore.models.canonical import canonicalize
from auditcore.models.classifier import Classifier
from auditcore.models.loading import load_classifier
from auditcore.models.probe_images import probe_images

FED = Preprocessing(resize=16, crop=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
PIXELS = probe_images(FED.shape, count=3)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, 4)

    def maps(self, x: Tensor) -> Tensor:
        found: Tensor = self.features(x)
        return found

    def forward(self, x: Tensor) -> Any:
        return 3 * self.fc(self.maps(x).mean((2, 3)))


def classifier(module: nn.Module) -> Classifier:
    return Classifier(module.eval(), preprocessing=FED)


def expected(module: nn.Module) -> Tensor:
    with torch.no_grad():
        logits: Tensor = module.eval()((PIXELS - 0.5) / 0.25)
    return logits


def gradient(module: Classifier) -> Tensor:
    return module.gradient(module.normalize(PIXELS), torch.tensor([0, 1, 2]))[0]


class Registering(Net):
    """The usual tutorial of Grad-CAM."""

    def maps(self, x: Tensor) -> Tensor:
        found = super().maps(x)
        found.register_hook(self.save)
        return found

    def save(self, received: Tensor) -> None:
        self.received = received.detach()


class Retaining(Net):
    def maps(self, x: Tensor) -> Tensor:
        found = super().maps(x)
        found.retain_grad()
        return found


@pytest.mark.parametrize("net", [Registering, Retaining])
def test_a_model_that_asks_for_gradients_of_its_maps_also_gives_logits(net: type[Net]) -> None:
    found = classifier(net())
    torch.testing.assert_close(found.logits(PIXELS), expected(Net()))
    torch.testing.assert_close(found.logits(PIXELS[:1]), expected(Net())[:1])
    assert not found.logits(PIXELS).requires_grad
    torch.testing.assert_close(gradient(found), gradient(classifier(Net())))
    assert found.capabilities.layers
    assert found.capabilities.gradients


class Uncompilable(Net):
    """Raises if something compiles it, which would take a minute per size of batch."""

    def forward(self, x: Tensor) -> Any:
        if torch.compiler.is_compiling():
            pytest.fail("the model was compiled")
        return super().forward(x)


def test_compiled_models_run_as_they_were_before() -> None:
    outside, inside, itself = Uncompilable(), Uncompilable(), Uncompilable()
    inside.features[0] = torch.compile(inside.features[0], backend="eager")  # type: ignore[assignment]
    itself.compile(backend="eager")
    for module in (torch.compile(outside, backend="eager"), inside, itself):
        assert isinstance(module, nn.Module)
        found = classifier(module)
        torch.testing.assert_close(found.logits(PIXELS), expected(Net()))
        assert "features.0" in found.layouts


def test_backward_hooks_of_other_tools_are_removed_and_noted() -> None:
    module = Net()
    module.features[0].register_full_backward_hook(lambda _layer, given, _received: tuple(2 * one for one in given))
    module.features[1].register_full_backward_hook(lambda _layer, _given, _received: None)
    found = classifier(module)
    torch.testing.assert_close(found.logits(PIXELS), expected(Net()))
    torch.testing.assert_close(gradient(found), gradient(classifier(Net())))
    (note,) = [note for note in found.notes if "backward hooks" in note]
    assert "features.0 and 1 more" in note
    assert module.features[0]._backward_hooks, "the given model stays as it is"


class Fourier(Net):
    """Complex weights, as of spectral layers."""

    def __init__(self) -> None:
        super().__init__()
        self.turned = nn.Parameter(torch.polar(torch.ones(8, 16, 9), torch.linspace(0, 3, 9).expand(8, 16, 9)))

    def maps(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(super().maps(x)) * self.turned, s=(16, 16)).abs()


def test_complex_weights_keep_their_imaginary_part() -> None:
    torch.testing.assert_close(classifier(Fourier()).logits(PIXELS), expected(Fourier()))


class Pairing(Net):
    """Takes images in two halves."""

    def forward(self, x: Tensor) -> Any:
        first, second = x.reshape(2, -1, 3, 16, 16).unbind()
        return torch.cat((super().forward(first), super().forward(second)))


class Twos(Net):
    """Written for batches of two."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.reshape(2, 3, 16, 16))


def test_a_model_of_even_batches_gets_them() -> None:
    found = classifier(Pairing())
    for images in (1, 2, 3):
        torch.testing.assert_close(found.logits(PIXELS[:images]), expected(Net())[:images])
    assert any("even number" in note for note in found.notes)
    assert not found.capabilities.layers


def test_a_model_of_one_size_of_batch_is_told_so() -> None:
    with pytest.raises(ModelOutputInvalid, match=r"two images at once, but neither .*any size") as caught:
        classifier(Twos())
    assert caught.value.field == "model"


class Percent(Net):
    def forward(self, x: Tensor) -> Any:
        return 100 * super().forward(x).softmax(1)


def test_probabilities_in_percent_are_no_logits() -> None:
    with pytest.raises(ModelOutputInvalid, match=r"percent.*divides them by 100"):
        classifier(Percent())


class Named(Net):
    def forward(self, *, pixel_values: Tensor) -> Any:
        return super().forward(pixel_values)


class Two(Net):
    def forward(self, x: Tensor, target: Tensor) -> Any:
        return super().forward(x) + target


@pytest.mark.parametrize("net", [Named, Two])
def test_other_arguments_are_not_blamed_on_the_preprocessing(net: type[Net]) -> None:
    with pytest.raises(ModelOutputInvalid, match="takes one tensor of images") as caught:
        classifier(net())
    assert caught.value.field == "model"


@pytest.mark.filterwarnings("ignore")  # PyTorch warns of its own quantization
def test_dynamically_quantized_layers_are_refused_with_a_way_out() -> None:
    module = torch.ao.quantization.quantize_dynamic(Net().eval(), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]
    with pytest.raises(ModelNotLoadable, match=r"'fc' has quantized weights.*before its quantization"):
        classifier(module)


def test_pruned_weights_have_a_canonical_form() -> None:
    module = Net()
    module.features.insert(1, nn.BatchNorm2d(8))
    for layer in (module.features[0], module.fc):
        torch.nn.utils.prune.l1_unstructured(layer, "weight", 0.3)  # type: ignore[no-untyped-call]
    canonical = canonicalize(module, shape=FED.shape)
    inputs = (PIXELS - 0.5) / 0.25
    torch.testing.assert_close(canonical(inputs), expected(module))


def lazy(*, unused: bool = False, channels: int = 3) -> nn.Module:
    layers = [nn.LazyConv2d(4, channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5)]
    module = nn.Sequential(*layers)
    if unused:
        module[1].register_module("spare", nn.LazyLinear(2))
    return module


def loaded(**kwargs: bool | int) -> Classifier:
    target = f"{__name__}:lazy"
    reference = FactoryModel(target=target, kwargs=kwargs, weights=Weights(uri="random:3"), preprocessing=FED)
    return load_classifier(reference, access=AccessRules(factories=(target,)))


def test_lazy_layers_get_their_sizes_from_the_preprocessing() -> None:
    first, again = loaded(), loaded()
    assert first.classes == 5
    assert first.digest == again.digest, "weights are drawn with the seed"


def test_lazy_layers_that_get_no_size_are_refused() -> None:
    with pytest.raises(ModelNotLoadable, match="takes no part in the forward"):
        loaded(unused=True)
    with pytest.raises(ModelNotLoadable, match="cannot get their sizes"):
        loaded(channels=30)


# --- types of numbers -----------------------------------------------------------------------------------------------


class Other(Net):
    """Returns another type of numbers than it takes."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        return super().forward(x).to(self.kind)


class Inside(Other):
    """Computes in another type, and its weights are of that type."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__(kind)
        self.to(kind)

    def forward(self, x: Tensor) -> Any:
        return Net.forward(self, x.to(self.kind))


@pytest.mark.parametrize(("kind", "off"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2), (torch.float64, 1e-5)])
@pytest.mark.parametrize("net", [Other, Inside])
def test_logits_are_float32_whatever_a_model_computes_in(net: type[Other], kind: torch.dtype, off: float) -> None:
    found = classifier(net(kind))
    logits = found.logits(PIXELS)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected(Net()), rtol=off, atol=off)
    torch.testing.assert_close(gradient(found), gradient(classifier(Net())), rtol=0.1, atol=off / 10)
    named = str(kind).removeprefix("torch.")
    assert any(f"weights of {named}" in note for note in found.notes) == (net is Inside)


def test_weights_of_another_type_without_code_for_it_become_float32() -> None:
    found = classifier(Net().half())
    assert found.notes == ()
    torch.testing.assert_close(found.logits(PIXELS), expected(Net()), rtol=5e-3, atol=5e-3)


# --- methods and settings of PyTorch that code takes for itself -------------------------------------------------------


class Trained(Net):
    """Its method `train` is a loop over batches."""

    def train(self, batches: Any, epochs: int = 2) -> None:  # type: ignore[override]
        for _ in range(epochs):
            for batch in batches:
                self(batch)


class Returning(Net):
    """Its method `train` forgets to return the module."""

    def train(self, mode: bool = True) -> Any:  # noqa: FBT001, FBT002 - the signature of torch
        super().train(mode)


def test_a_method_in_place_of_that_of_pytorch_is_named() -> None:
    with pytest.raises(ModelNotLoadable, match=r"cannot be switched to evaluation.*another name") as caught:
        Classifier(Trained(), preprocessing=FED)
    assert caught.value.field == "model"
    torch.testing.assert_close(Classifier(Returning(), preprocessing=FED).logits(PIXELS), expected(Net()))


class Leaving(Net):
    def maps(self, x: Tensor) -> Tensor:
        raise SystemExit(len(x))


def test_a_forward_that_ends_the_program_is_a_problem() -> None:
    with pytest.raises(ModelOutputInvalid, match="SystemExit: 2"):
        classifier(Leaving())


class Reusing(Net):
    """Writes its answer into the same memory each time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("answer", torch.zeros(8, 4))

    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            return self.answer[: len(x)].copy_(super().forward(x))


def test_an_answer_that_the_next_pass_overwrites_is_refused() -> None:
    with pytest.raises(ModelOutputInvalid, match="the same memory in every pass"):
        classifier(Reusing())


class Noisy(Net):
    def maps(self, x: Tensor) -> Tensor:
        return super().maps(x + 3e-3 * torch.randn_like(x))


def test_a_little_noise_is_noted() -> None:
    torch.manual_seed(1)
    assert any("the same image twice" in note for note in classifier(Noisy()).notes)
    assert classifier(Net()).notes == ()


def meddling() -> nn.Module:
    """Factory target: changes settings of the process."""
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    return Net()


def hollow() -> nn.Module:
    """Factory target: weights without values."""
    with torch.device("meta"):
        return Net()


def test_settings_of_the_process_outlive_a_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = SimpleNamespace(meddling=meddling, hollow=hollow)
    monkeypatch.setitem(sys.modules, "meddling_factories", cast("types.ModuleType", targets))
    given = {"weights": Weights(uri="random:1"), "preprocessing": FED}
    models = [FactoryModel(target=f"meddling_factories:{name}", **given) for name in ("meddling", "hollow")]
    access = AccessRules(factories=tuple(model.target for model in models))
    found = load_classifier(models[0], access=access)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert found.logits(PIXELS).dtype == torch.float32
    with pytest.raises(ModelNotLoadable, match="device `meta`"):
        load_classifier(models[1], access=access)
