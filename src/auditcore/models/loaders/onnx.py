"""ONNX graphs: a black box in ONNX Runtime, or converted to PyTorch if both give the same outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from auditcore.contracts.canonical_json import digest_of, sha256
from auditcore.contracts.capabilities import BLACK_BOX, ModelCapabilities
from auditcore.contracts.input_shape import InputShape
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.errors import ModelNotLoadable, ModelOutputInvalid
from auditcore.models.black_box import BlackBox
from auditcore.models.foreign_code import raised_by_a_signal
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.external_data import include_external_data, refuse_external_data
from auditcore.models.loaders.onnx_operators import OLDER_OPSET, in_older_operators, without_converter
from auditcore.models.loaders.onnx_outputs import keep_output, last_operation
from auditcore.models.loaders.weights import WeightsSource
from auditcore.models.logits import refuse_probabilities
from auditcore.sources.fetching import open_resource
from auditcore.sources.sibling_files import read_sibling

FIELD = "model.uri"
IMAGES_PER_PASS = 8

_TYPES: Mapping[str, type[np.floating[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
}
"""Types of images and scores, as ONNX Runtime names them."""

AGREEMENT = 1e-4
"""Largest difference between a conversion and ONNX Runtime, as a fraction of the range of the outputs."""


@final
class OnnxSource:
    """A `Source` (see `models/black_box.py`) that is a graph in ONNX Runtime.

    Attributes:
        conversion_failure: Why the graph cannot be converted to PyTorch; None if that was not asked for.
    """

    def __init__(
        self,
        session: Any,  # noqa: ANN401 - ONNX Runtime publishes no types
        *,
        digest: str,
        image: str,
        output: str,
        fixed: int | None,
        channels_last: bool,
        dtype: type[np.floating[Any]],
    ) -> None:
        """Keep an open session.

        Args:
            session: Session of ONNX Runtime.
            digest: Digest of the file, and of those with its weights.
            image: Name of the input.
            output: Name of the output.
            fixed: Batch size of the graph; None if it takes any.
            channels_last: Whether the input is (N,H,W,channels).
            dtype: Type of the input.
        """
        self._session = session
        self._digest = digest
        self._image = image
        self._output = output
        self._fixed = fixed
        self._channels_last = channels_last
        self._dtype = dtype
        self.conversion_failure: str | None = None

    @property
    def digest(self) -> str:
        """Digest of the file, and of those with its weights."""
        return self._digest

    @property
    def capabilities(self) -> ModelCapabilities:
        """Only predictions."""
        return BLACK_BOX.model_copy(update={"conversion_failure": self.conversion_failure})

    @property
    def probe(self) -> None:
        """A file that was loaded does not change."""
        return None

    @property
    def images_per_pass(self) -> int:
        """The batch size of the graph, or a few images."""
        return self._fixed or IMAGES_PER_PASS

    def predict(self, inputs: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Outputs of the graph for normalized inputs; a fixed batch is filled up.

        Raises:
            ModelOutputInvalid: The graph fails on these inputs.
        """
        step = self._fixed or len(inputs)
        rows = [self._run(part, step) for part in inputs.split(step)] if len(inputs) else []
        return torch.cat(rows)

    def begin(self, images: int) -> None:
        """A file that was loaded does not change."""

    def end(self) -> tuple[str, ...]:
        """Why gradients are missing."""
        since = "" if self.conversion_failure is None else f", since {self.conversion_failure}"
        return (f"predictions came from ONNX Runtime{since}",)

    def _run(self, part: Tensor, step: int) -> Tensor:
        filled = part if len(part) == step else torch.cat([part, part[:1].expand(step - len(part), -1, -1, -1)])
        if self._channels_last:
            filled = filled.permute(0, 2, 3, 1)
        try:
            images = filled.contiguous().numpy().astype(self._dtype, copy=False)
            (scores,) = self._session.run([self._output], {self._image: images})
        # ONNX Runtime raises errors of its own without a common base class
        except Exception as error:
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            msg = f"the graph cannot process images of shape {tuple(filled.shape)}: {first_line}"
            raise ModelOutputInvalid(msg, field="model.preprocessing") from error
        found = np.array(scores, np.float32)
        if step == 1 and found.shape[:1] != (1,):
            # a graph of one image may leave out its axis
            found = found[None]
        return _rows(torch.from_numpy(found))[: len(part)]


def _rows(scores: Tensor) -> Tensor:
    """Scores without axes of length one after those of images and columns."""
    if scores.ndim == 0 or any(length != 1 for length in scores.shape[2:]):
        return scores
    return scores.reshape(len(scores), -1)


@final
class ChannelsLast(nn.Module):
    """A network that takes images as (N,H,W,channels)."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, x: Any) -> Any:  # noqa: ANN401 - a tensor, or its symbol while torch.fx traces
        """Outputs (N,classes) of images (N,channels,H,W)."""
        return self.network(x.permute(0, 2, 3, 1))


@final
class OneByOne(nn.Module):
    """A network that takes one image at a time."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (N,classes), each of a pass of its own."""
        return torch.cat([self.network(image) for image in x.split(1)])


def load(reference: OnnxModel, source: WeightsSource) -> LoadedModel:
    """Open a graph, and convert it to PyTorch if that gives the same outputs.

    Raises:
        ModelNotLoadable: The file is damaged, or ONNX Runtime is not installed.
        UnsafeReference: The graph keeps data in a file that is not beside it.
        ModelOutputInvalid: Input or output has a type or shape that does not fit images or class scores.
        InputError: A file cannot be read.
    """
    graph, digest = _read(reference, source)
    keep_output(graph, reference.select)
    last = last_operation(graph)
    session = _session(graph, source.device)
    image, (output,) = _only_input(session.get_inputs()), session.get_outputs()
    shape = reference.preprocessing.shape
    fixed = _refuse_misfit(image, output, shape, reference.layout)
    if reference.outputs == "logits":
        refuse_probabilities(last, reference.scores, binary=list(output.shape)[1:] in ([], [1]))
    runtime = OnnxSource(
        session,
        digest=digest,
        image=image.name,
        output=output.name,
        fixed=fixed,
        channels_last=reference.layout == "NHWC",
        dtype=_TYPES[image.type],
    )
    if reference.gradients == "auto":
        converted = _converted(graph, runtime, shape, fixed, reference.layout)
        if isinstance(converted, nn.Module):
            if fixed is not None:
                single = any(isinstance(part, OneByOne) for part in converted.modules())
                way = "one image at a time" if single else "any number of images at once"
                source.notes.append(
                    f"the graph was exported for {fixed} images at a time; its conversion to PyTorch gives the same "
                    f"outputs for {way}"
                )
            return LoadedModel(
                converted, reference.preprocessing, reference.scores, trained=True, outputs=reference.outputs
            )
        runtime.conversion_failure = converted
    black_box = BlackBox(runtime, outputs=reference.outputs, scores=reference.scores)
    return LoadedModel(black_box, reference.preprocessing, reference.scores, trained=True)


def _read(reference: OnnxModel, source: WeightsSource) -> tuple[Any, str]:
    """The checked graph with all its data, and the digest over its files."""
    limit = source.access.limits.weights_bytes
    path = open_resource(
        reference.uri,
        access=source.access,
        field=FIELD,
        limit_bytes=limit,
        sha256=reference.sha256,
        blobs=source.blobs,
    )
    # read once, so that the checked bytes are the ones that run, even if the file changes
    data = path.read_bytes()
    digest = sha256(data)
    left = limit - len(data)
    graph = _parsed(data)
    del data

    def read(name: str) -> bytes:
        nonlocal left
        found = read_sibling(reference.uri, name, reference.parts, access=source.access, field=FIELD, limit_bytes=left)
        left -= len(found)
        return found

    files = include_external_data(graph, read, field=FIELD)
    refuse_external_data(graph, field=FIELD)
    if files:
        digest = digest_of({"": digest, **{name: sha256(content) for name, content in files.items()}})
    return graph, digest


def _parsed(data: bytes) -> Any:  # noqa: ANN401 - onnx publishes no types
    """The graph, without unknown fields and options."""
    try:
        import onnx  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _not_installed(error) from error
    try:
        graph = onnx.ModelProto.FromString(data)
    except Exception as error:
        msg = f"the file is not an ONNX graph, or it is damaged: {type(error).__name__}; export it again"
        raise ModelNotLoadable(msg, field=FIELD) from error
    # ONNX Runtime may know fields that this version of onnx does not
    graph.DiscardUnknownFields()
    # if ORT_LOAD_CONFIG_FROM_MODEL is set, ONNX Runtime takes options from there, including files to write
    graph.ClearField("metadata_props")
    return graph


def _session(graph: Any, device: str) -> Any:  # noqa: ANN401 - ONNX Runtime publishes no types
    try:
        import onnxruntime  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _not_installed(error) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # ONNX Runtime's own format, ORT, has other fields for data
    options.add_session_config_entry("session.load_model_format", "ONNX")
    cuda = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    available = set(onnxruntime.get_available_providers())
    providers = [name for name in (*cuda, "CPUExecutionProvider") if name in available]
    try:
        # the checked graph, not the file: two parsers may read a hand-made file differently
        return onnxruntime.InferenceSession(graph.SerializeToString(), sess_options=options, providers=providers)
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        msg = f"ONNX Runtime cannot open the graph: {first_line}"
        raise ModelNotLoadable(msg, field=FIELD) from error


def _not_installed(error: ImportError) -> ModelNotLoadable:
    msg = f"ONNX is not installed here ({error}); install auditcore[onnx]"
    return ModelNotLoadable(msg, field=FIELD)


def _only_input(tensors: list[Any]) -> Any:  # noqa: ANN401 - ONNX Runtime publishes no types
    if len(tensors) != 1:
        names = ", ".join(repr(tensor.name) for tensor in tensors)
        msg = f"a classifier has one input, and the graph has {names}; export it with one"
        raise ModelOutputInvalid(msg, field=FIELD)
    return tensors[0]


def _refuse_misfit(image: Any, output: Any, one: InputShape, layout: str) -> int | None:  # noqa: ANN401 - onnx publishes no types
    """The batch size of the graph; None if it takes any."""
    for tensor in (image, output):
        if tensor.type not in _TYPES:
            msg = f"{tensor.name!r} is of type {tensor.type}; export the graph with float32 inputs and outputs"
            raise ModelOutputInvalid(msg, field=FIELD)
    shape = list(image.shape)
    first, last = list(one), [*one[1:], one[0]]
    expected, other = (last, first) if layout == "NHWC" else (first, last)
    if not _fits(shape, expected):
        if _fits(shape, other):
            right = "NCHW" if layout == "NHWC" else "NHWC"
            msg = f"input {image.name!r} has shape {shape}, which is the layout {right}; set `layout` to {right}"
            raise ModelOutputInvalid(msg, field="model.layout")
        msg = f"input {image.name!r} has shape {shape}, and images are {['N', *expected]}; {_fix(shape, one, layout)}"
        raise ModelOutputInvalid(msg, field="model.preprocessing")
    return shape[0] if isinstance(shape[0], int) else None


def _fix(shape: list[Any], one: InputShape, layout: str) -> str:
    """How to make images of the shape that a graph takes."""
    if len(shape) != 1 + len(one):
        return "a classifier of images has one input of four axes"
    channels, height, width = (shape[3], *shape[1:3]) if layout == "NHWC" else shape[1:]
    if isinstance(channels, int) and channels != one.channels:
        counted = f"{channels} channel{'s' * (channels != 1)}"
        return f"the model takes {counted}, so give `mean` and `std` of `preprocessing` one value per channel"
    square = "" if height == width else ", since the model takes no square"
    return f'set `crop` of `preprocessing` to {{"height": {height}, "width": {width}}}{square}'


def _fits(shape: list[Any], expected: list[int]) -> bool:
    """Whether a shape is that of images; sizes that are not fixed have a name or none."""
    return len(shape) == 1 + len(expected) and all(
        not isinstance(found, int) or found == wanted for found, wanted in zip(shape[1:], expected, strict=True)
    )


def _converted(
    graph: Any,  # noqa: ANN401 - onnx publishes no types
    runtime: OnnxSource,
    shape: InputShape,
    fixed: int | None,
    layout: str,
) -> nn.Module | str:
    """The graph as a PyTorch module, or the reason why there is none with the same outputs."""
    try:
        import onnx2torch  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return "onnx2torch is not installed here"
    images = torch.from_numpy(np.random.Generator(np.random.Philox(key=1)).standard_normal((3, *shape), np.float32))
    expected = runtime.predict(images)
    reasons = []
    for convert in _ways(graph, fixed):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = convert()
        # unknown operators fail in many ways
        except Exception as error:
            if raised_by_a_signal(error):
                raise
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            reasons.append(f"the graph cannot be converted to PyTorch ({first_line})")
            continue
        module = ChannelsLast(module) if layout == "NHWC" else module
        reason = _difference(module, images, expected)
        if reason is None:
            return module
        reasons.append(reason)
    # the last way is for graphs of older exporters; the first of the others knows most operators
    return reasons[1]


def _ways(graph: Any, fixed: int | None) -> Iterator[Callable[[], nn.Module]]:  # noqa: ANN401 - onnx publishes no types
    """Ways to convert a graph, in the order in which they are tried."""
    from onnx import version_converter  # noqa: PLC0415 - an extra
    from onnx2torch import convert  # noqa: PLC0415 - an extra

    def as_it_is() -> nn.Module:
        module: nn.Module = convert(graph)
        return module.eval()

    def older(free_batch: int | None) -> nn.Module:
        rewritten = in_older_operators(graph, free_batch=free_batch)
        unknown = without_converter(rewritten)
        if unknown:
            msg = f"onnx2torch has no converter for {', '.join(unknown)}"
            raise NotImplementedError(msg)
        module: nn.Module = convert(rewritten)
        return module.eval()

    def older_by_onnx() -> nn.Module:
        module: nn.Module = convert(version_converter.convert_version(graph, OLDER_OPSET))
        return module.eval()

    yield as_it_is
    yield lambda: older(fixed)
    if fixed == 1:
        # a pass for each image hides the layers from explainers that read them, so it comes late
        yield lambda: OneByOne(older(None))
        yield lambda: OneByOne(as_it_is())
    yield older_by_onnx


def _difference(module: nn.Module, images: Tensor, expected: Tensor) -> str | None:
    """Why a conversion is not the graph; None if both give the same outputs."""
    try:
        with torch.no_grad():
            found = _rows(torch.cat([module(images[:2]), module(images[2:])]))
    # a conversion is foreign code
    except Exception as error:  # noqa: BLE001
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        return f"its conversion to PyTorch fails ({first_line})"
    if found.shape != expected.shape:
        return "its conversion to PyTorch gives another shape"
    spread = float(expected.max() - expected.min())
    worst = float((found - expected).abs().max())
    if not worst <= AGREEMENT * max(spread, float(np.finfo(np.float32).tiny)):
        return f"its conversion to PyTorch answers otherwise, by {worst:.3g}"
    return None
