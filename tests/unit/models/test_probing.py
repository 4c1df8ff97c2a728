"""Models with habits of their own: what runs in PyTorch runs here, and what cannot be audited has a reason."""

from __future__ import annotations

import re
import signal
import warnings
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor, nn

from auditcore.contracts.capabilities import PROGRAM, explainer_incompatibility
from auditcore.contracts.explainers import GradCam, Gradient, GuidedBackpropagation, Occlusion
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.errors import ModelOutputInvalid, NonFiniteWeights
from auditcore.explainers.registry import applicability
from auditcore.models.classifier import Classifier
from auditcore.models.foreign_code import failure_of_model, said
from auditcore.models.logits import to_logits
from auditcore.models.probe_images import probe_images

FED = Preprocessing(resize=16, crop=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
PIXELS = probe_images(InputShape(3, 16, 16), count=4)


class Net(nn.Module):
    """A small convolutional network; `then` is applied to its logits."""

    def __init__(self, then: Callable[[Tensor], Any] = lambda y: y, *, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.fc = nn.Linear(8, classes)
        self.then = then

    def given(self, x: Tensor) -> Tensor:
        return x

    def pooled(self, x: Tensor) -> Tensor:
        mean: Tensor = self.features(self.given(x)).mean((2, 3))
        return mean

    def forward(self, x: Tensor) -> Any:
        return self.then(3 * self.fc(self.pooled(x)))


def classifier(module: nn.Module, **options: Any) -> Classifier:
    return Classifier(module.eval(), preprocessing=FED, **options)


def plain() -> Classifier:
    return classifier(Net())


def same_everywhere(found: Classifier, expected: Classifier) -> None:
    """Logits and input gradients agree in batches of one, two and three images."""
    for images in (1, 2, 3):
        pixels = PIXELS[:images]
        torch.testing.assert_close(found.logits(pixels), expected.logits(pixels))
        gradients, _ = found.gradient(found.normalize(pixels), None)
        wanted, _ = expected.gradient(expected.normalize(pixels), None)
        torch.testing.assert_close(gradients, wanted)


# --- models that run in PyTorch run here ----------------------------------------------------------------------------


class View(Net):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8 * 16 * 16, 4)

    def pooled(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return features.view(features.size(0), -1)


def test_a_view_of_a_feature_map_gets_contiguous_images() -> None:
    net = View()
    found = classifier(net)
    assert found.memory_format is torch.contiguous_format
    assert plain().memory_format is torch.channels_last
    with torch.no_grad():
        torch.testing.assert_close(found.logits(PIXELS), net((PIXELS - 0.5) / 0.25))
    assert applicability(found, GradCam()) is None
    assert found.folded is not found.module


class InPlace(Net):
    def given(self, x: Tensor) -> Tensor:
        x -= 0.3
        x *= 2
        return x


class OutOfPlace(Net):
    def given(self, x: Tensor) -> Tensor:
        return (x - 0.3) * 2


def test_a_model_that_changes_its_input_gets_a_copy() -> None:
    found = classifier(InPlace())
    same_everywhere(found, classifier(OutOfPlace()))
    inputs = found.normalize(PIXELS)
    before = inputs.clone()
    found.score(inputs)
    assert torch.equal(inputs, before)


class Squeezing(Net):
    def pooled(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.features(x), 1).squeeze()


class Joining(Net):
    """Needs at least two images, as `squeeze` and then a batch norm by hand do."""

    def pooled(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(self.features(x), 1).squeeze().reshape(x.shape[0], 8 if x.shape[0] > 1 else 7)


class One(Net):
    """Takes one image only, as a traced program often does."""

    def pooled(self, x: Tensor) -> Tensor:
        return self.features(x).mean((2, 3)).view(1, 8)


@pytest.mark.parametrize(("net", "layers"), [(Squeezing, True), (Joining, False), (One, False)])
def test_batches_of_one_and_only_of_one(net: type[Net], layers: bool) -> None:  # noqa: FBT001
    found = classifier(net())
    same_everywhere(found, plain())
    assert found.capabilities.layers == layers
    assert applicability(found, Gradient()) is None
    reason = applicability(found, GradCam())
    assert (reason is None) if layers else (reason is not None and "keep the axis of images" in reason)
    assert bool(found.notes) != layers


def test_weight_norm_of_earlier_versions_is_copied_and_traced() -> None:
    net = Net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.fc = torch.nn.utils.weight_norm(net.fc)
    found = classifier(net)
    same_everywhere(found, plain())
    torch.testing.assert_close(found.canonical(found.normalize(PIXELS)), plain().logits(PIXELS))


class Storing(Net):
    def pooled(self, x: Tensor) -> Tensor:
        self.kept = {"features": [self.features(x)]}
        return self.kept["features"][0].mean((2, 3))


def test_a_model_that_stores_a_feature_map_can_be_copied_after_a_backward_pass() -> None:
    found = classifier(Storing())
    found.gradient(found.normalize(PIXELS), None)
    other = found.altered(lambda _module: None, digest="sha256:other")
    torch.testing.assert_close(other.logits(PIXELS), plain().logits(PIXELS))


class Caching(Net):
    """Keeps a grid of positions for each batch size."""

    def pooled(self, x: Tensor) -> Tensor:
        if getattr(self, "grid", torch.zeros(0)).shape[:1] != x.shape[:1]:
            self.grid = torch.ones(len(x), 8, 1, 1)
        return (self.features(x) * self.grid).mean((2, 3))


def test_a_model_that_keeps_tensors_is_not_run_in_inference_mode() -> None:
    same_everywhere(classifier(Caching()), plain())


# --- how its logits are found ---------------------------------------------------------------------------------------

Named = namedtuple("Named", "aux logits")  # noqa: PYI024 - as torchvision returns them


@pytest.mark.parametrize(
    ("then", "select"),
    [
        (lambda y: {"logits": y, "aux": -y}, None),
        (lambda y: Named(-y, y), None),
        (lambda y: [y], None),
        # a loss that is None, and words
        (lambda y: (None, y), None),
        (lambda y: {"loss": None, "scores": y, "version": "1.0"}, None),
        (lambda y: (y, -y), 0),
        (lambda y: (-y, y), -1),
        (lambda y: {"out": y, "aux": -y}, "out"),
        (lambda y: Named(y, -y), "aux"),
        (lambda y: y[:, :, None, None], None),
    ],
)
def test_class_scores_are_found_by_name_or_by_what_is_declared(then: Callable[[Tensor], Any], select: Any) -> None:
    found = classifier(Net(then), select=select)
    same_everywhere(found, plain())
    # torch.fx traces through the view, so methods that need layers run
    assert applicability(found, GuidedBackpropagation()) is None
    assert found.feature_layers == plain().feature_layers


@pytest.mark.parametrize(
    ("then", "select", "match"),
    [
        (lambda y: {"out": y, "aux": -y}, None, "got dict with 'out', 'aux'; set `select`"),
        (lambda y: (y, -y), None, r"got tuple of \(2, 4\), \(2, 4\); set `select`"),
        (lambda y: {"out": y}, "logits", "`select` is 'logits', but the model returns dict with 'out'"),
        (lambda y: (y, "text"), 1, "is a str; select the class scores"),
    ],
)
def test_what_cannot_be_found_names_select(then: Callable[[Tensor], Any], select: Any, match: str) -> None:
    with pytest.raises(ModelOutputInvalid, match=match) as caught:
        classifier(Net(then), select=select)
    assert caught.value.field == "model.select"


@pytest.mark.parametrize("outputs", ["logits", "probabilities", "log_probabilities"])
@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
@pytest.mark.parametrize("classes", [1, 4])
def test_probabilities_are_the_models_own(outputs: Any, scores: Any, classes: int) -> None:
    def link(y: Tensor) -> Tensor:
        return y.softmax(1) if scores == "softmax" and classes > 1 else y.sigmoid()

    def then(y: Tensor) -> Tensor:
        return y if outputs == "logits" else link(y) if outputs == "probabilities" else link(y).log()

    net = Net(then, classes=classes)
    found = classifier(net, outputs=outputs, scores=scores)
    probabilities = found.probabilities(found.logits(PIXELS)).double().numpy()
    # replica in float64, from the logits themselves
    net.then = lambda y: y
    with torch.no_grad():
        z = net((PIXELS - 0.5) / 0.25).double().numpy()
    if classes == 1:
        positive = 1 / (1 + np.exp(-z))
        expected = np.concatenate((1 - positive, positive), axis=1)
        assert any("class 1 is the positive class" in note for note in found.notes)
    elif scores == "sigmoid":
        expected = 1 / (1 + np.exp(-z))
    else:
        expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert found.classes == max(classes, 2)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)
    gradients, _ = found.gradient(found.normalize(PIXELS), torch.zeros(4, dtype=torch.long))
    assert gradients.abs().amax(dim=(1, 2, 3)).min() > 0


def test_a_squeezed_column_is_a_binary_classifier_too() -> None:
    found = classifier(Net(lambda y: y.squeeze(1), classes=1))
    same_everywhere(found, classifier(Net(classes=1)))


@pytest.mark.parametrize("share", [0.0, 1e-30, 0.25, 1.0])
def test_logits_of_extreme_probabilities_are_finite_and_exact(share: float) -> None:
    returned = torch.tensor([[share, 1 - share]])
    for scores in ("softmax", "sigmoid"):
        logits = to_logits(returned, outputs="probabilities", scores=scores, columns=2)  # type: ignore[arg-type]
        assert logits.isfinite().all()
        back = logits.softmax(1) if scores == "softmax" else logits.sigmoid()
        torch.testing.assert_close(back, returned)


@pytest.mark.parametrize(
    ("then", "options", "match"),
    [
        (lambda y: y.softmax(1), {}, "every row sums to 1; set `outputs` to `probabilities`"),
        (lambda y: y.sigmoid(), {}, "ends with sigmoid.*`outputs` to `probabilities` and `scores` to `sigmoid`"),
        (lambda y: y.sigmoid(), {"scores": "sigmoid"}, "ends with sigmoid.*`outputs` to `probabilities`"),
        (F.logsigmoid, {"scores": "sigmoid"}, "set `outputs` to `log_probabilities`"),
        # in half precision, rows do not sum to 1
        (lambda y: y.half().softmax(1).float(), {}, "ends with softmax"),
        (lambda y: y.sigmoid().clamp(1e-3, 1 - 1e-3), {"scores": "sigmoid"}, "ends with sigmoid"),
        (lambda y: y, {"outputs": "probabilities"}, "declared as probabilities, but range from"),
        (lambda y: y + 100, {"outputs": "log_probabilities"}, "declared as log probabilities, but range from"),
        (lambda y: y.sigmoid(), {"outputs": "probabilities"}, "sum of an image's classes differs from 1"),
    ],
)
def test_outputs_that_are_not_what_they_are_declared_to_be(
    then: Callable[[Tensor], Any], options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ModelOutputInvalid, match=match) as caught:
        classifier(Net(then), **options)
    assert caught.value.field == "model.outputs"


def test_one_probability_declared_as_a_logit_is_refused() -> None:
    with pytest.raises(ModelOutputInvalid, match="ends with sigmoid"):
        classifier(Net(lambda y: y.sigmoid(), classes=1))
    # made by hand, it only looks like one
    for scores in ("softmax", "sigmoid"):
        found = classifier(Net(lambda y: 1 / (1 + (-y).exp()), classes=1), scores=scores)
        assert any("are between 0 and 1" in note for note in found.notes)
        assert not any("are between 0 and 1" in note for note in classifier(Net(classes=1), scores=scores).notes)


# --- what is assumed is tested --------------------------------------------------------------------------------------


class AlwaysDropout(Net):
    def pooled(self, x: Tensor) -> Tensor:
        return F.dropout(self.features(x).mean((2, 3)), 0.5)


class BatchStatistics(Net):
    def pooled(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.features(x).mean((2, 3))
        return pooled - pooled.mean(0)


class Untracked(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(8, track_running_stats=False)

    def pooled(self, x: Tensor) -> Tensor:
        return self.norm(self.features(x)).square().mean((2, 3)) + self.norm(self.features(x)).amax((2, 3))


class Counting(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def pooled(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.features(x).mean((2, 3)) + self.calls


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (AlwaysDropout, "the same image twice.*F.dropout"),
        (BatchStatistics, "statistics of the batch"),
        (Untracked, "layer 'norm' has no running statistics"),
        (Counting, "buffer 'calls' changes in every pass"),
    ],
)
def test_a_model_whose_answers_differ_is_refused_with_the_cause(net: type[Net], match: str) -> None:
    with pytest.raises(ModelOutputInvalid, match=f"not deterministic.*{match}") as caught:
        classifier(net())
    assert caught.value.field == "model"


class Standardizing(Net):
    def given(self, x: Tensor) -> Tensor:
        return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


def test_a_model_that_cannot_take_one_color_is_probed_with_texture() -> None:
    found = classifier(Standardizing())
    assert any("image of one color" in note for note in found.notes)
    with pytest.raises(ModelOutputInvalid, match="standard deviation of each image"):
        found.logits(torch.full((1, 3, 16, 16), 0.5))


def masked(y: Tensor) -> Tensor:
    return torch.cat((y[:, :3], torch.full_like(y[:, :1], float("-inf"))), dim=1)


def test_masked_classes_have_probability_zero() -> None:
    found = classifier(Net(masked))
    probabilities = found.probabilities(found.logits(PIXELS))
    assert (probabilities[:, 3] == 0).all()
    assert any("masks 1 of its classes" in note for note in found.notes)
    # its rewritten forms are compared although -inf minus -inf is no number
    assert applicability(found, GuidedBackpropagation()) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_other_values_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ModelOutputInvalid, match="textured probe images"):
        classifier(Net(lambda y: y + value))


def test_buffers_may_hold_a_mask_and_nothing_else_that_is_not_finite() -> None:
    net = Net()
    net.register_buffer("mask", torch.tensor([0.0, 0, 0, float("-inf")]))
    net.then = lambda y: y + net.mask
    assert (classifier(net).logits(PIXELS)[:, 3] == float("-inf")).all()
    net.mask[3] = float("nan")
    with pytest.raises(NonFiniteWeights, match="'mask'"):
        classifier(net)


# --- gradients ------------------------------------------------------------------------------------------------------


class Frozen(Net):
    def pooled(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().pooled(x)


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - the signature of torch
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        msg = "no backward pass here"
        raise NotImplementedError(msg)


@pytest.mark.parametrize(
    ("net", "match"),
    [
        (Frozen(), "does not require grad|not have been used"),
        (Net(lambda y: y.detach() * 2), "does not require grad"),
        (Net(Failing.apply), "NotImplementedError: no backward pass here"),
    ],
)
def test_a_model_without_gradients_offers_predictions(net: nn.Module, match: str) -> None:
    found = classifier(net)
    assert not found.capabilities.gradients
    assert any("no gradients" in note for note in found.notes)
    reason = explainer_incompatibility(Gradient(), found.capabilities)
    assert reason is not None
    assert re.search(match, reason)
    assert applicability(found, GradCam()) == reason
    assert applicability(found, Occlusion()) is None


def test_a_scripted_network_is_a_program() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.script(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
            .eval()
            .requires_grad_(requires_grad=False)
        )
    found = classifier(program)
    assert found.capabilities == PROGRAM
    assert found.folded is found.module
    gradients, _ = found.gradient(found.normalize(PIXELS), None)
    assert gradients.isfinite().all()


# --- errors of foreign code -----------------------------------------------------------------------------------------


def test_channels_that_do_not_fit_are_named() -> None:
    net = Net()
    net.features[0] = nn.Conv2d(1, 8, 3)
    with pytest.raises(ModelOutputInvalid, match="to have 1 channels, but got 3 channels") as caught:
        classifier(net)
    assert caught.value.field == "model.preprocessing"
    assert "\n" not in str(caught.value)


class Dark(Net):
    """Fails for dark images only."""

    def given(self, x: Tensor) -> Tensor:
        if x.mean() < -1:
            msg = "too dark\nsecond line"
            raise ValueError(msg)
        return x


def raised(work: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any exception
        work()
    return caught.value


def test_an_error_of_the_model_in_a_pass_is_told_from_an_error_of_this_package() -> None:
    found = classifier(Dark())
    error = raised(lambda: found.logits(torch.zeros(1, 3, 16, 16)))
    failure = failure_of_model(error, purpose="edda")
    assert failure is not None
    assert "'edda' (ValueError: too dark)" in failure.message
    assert "second line" not in failure.message
    # raised by a function of this package that gets wrong arguments
    assert failure_of_model(raised(lambda: found.normalize("x")), purpose="edda") is None  # type: ignore[arg-type]


def test_the_line_of_a_foreign_message_that_says_most() -> None:
    assert said(ValueError("first\nsecond")) == "ValueError: first"
    assert said(KeyError()) == "KeyError"
    scripted = RuntimeError("The following operation failed in the TorchScript interpreter.\nmore\nRuntimeError: sizes")
    assert said(scripted) == "RuntimeError: sizes"


def test_probe_images_have_texture_in_every_channel() -> None:
    images = probe_images(InputShape(4, 12, 30), count=3)
    assert images.shape == (3, 4, 12, 30)
    assert (images.amin(dim=(2, 3)) == 0).all()
    assert (images.amax(dim=(2, 3)) == 1).all()
    assert images.std(dim=(2, 3)).min() > 0.05
    assert torch.equal(images, probe_images(InputShape(4, 12, 30), count=3))
    assert len(torch.unique(images.flatten(1), dim=0)) == 3


def test_what_a_signal_raises_in_a_pass_is_not_the_models() -> None:
    def limit(_number: int, _frame: object) -> None:
        raise TimeoutError

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            signal.raise_signal(signal.SIGUSR2)
            return x

    before = signal.signal(signal.SIGUSR2, limit)
    try:
        assert failure_of_model(raised(lambda: Slow()(torch.zeros(1))), purpose="edda") is None
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_what_a_model_itself_raises_is_the_models() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise TimeoutError(x.shape)

    assert failure_of_model(raised(lambda: Failing()(torch.zeros(1))), purpose="edda") is not None


@pytest.mark.parametrize("last", range(1, 8))
def test_a_time_limit_while_a_model_is_tried_is_no_fault_of_the_model(last: int) -> None:
    def limit(_number: int, _frame: object) -> None:
        raise TimeoutError

    class Slow(Net):
        """Takes too long in one of the passes of a probe."""

        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            Slow.passes += 1
            if Slow.passes == last:
                signal.raise_signal(signal.SIGUSR2)
            return super().forward(x)

    before = signal.signal(signal.SIGUSR2, limit)
    try:
        with pytest.raises(TimeoutError):
            classifier(Slow())
    finally:
        signal.signal(signal.SIGUSR2, before)
