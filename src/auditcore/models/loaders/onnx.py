"""ONNX graphs: a black box in ONNX Runtime, or converted to PyTorch if both give the same outputs."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from auditcore.contracts.capabilities import BLACK_BOX, ModelCapabilities
from auditcore.contracts.packaged_models import OnnxModel
from auditcore.errors import ModelNotLoadable, ModelOutputInvalid
from auditcore.models.black_box import BlackBox
from auditcore.models.loaders.architecture import LoadedModel
from auditcore.models.loaders.external_data import refuse_external_data
from auditcore.models.loaders.weights import WeightsSource
from auditcore.sources.fetching import open_resource

FIELD = "model.uri"
IMAGES_PER_PASS = 8

OLDER_OPSET = 17
"""Version of the operators for which onnx2torch 1.5 has all of its converters."""

AGREEMENT = 1e-4
"""Largest difference between a conversion and ONNX Runtime, as a fraction of the range of the outputs."""


@final
class OnnxSource:
    """A `Source` (see `models/black_box.py`) that is a graph in ONNX Runtime."""

    def __init__(self, session: Any, *, digest: str, image: str, output: str, fixed: int | None, note: str) -> None:  # noqa: ANN401 - ONNX Runtime publishes no types
        """Keep an open session.

        Args:
            session: Session of ONNX Runtime.
            digest: Digest of the file.
            image: Name of the input.
            output: Name of the output.
            fixed: Batch size of the graph; None if it takes any.
            note: Why the model is a black box.
        """
        self._session = session
        self._digest = digest
        self._image = image
        self._output = output
        self._fixed = fixed
        self._note = note

    @property
    def digest(self) -> str:
        """Digest of the file."""
        return self._digest

    @property
    def capabilities(self) -> ModelCapabilities:
        """Only predictions."""
        return BLACK_BOX

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
        return (self._note,)

    def _run(self, part: Tensor, step: int) -> Tensor:
        filled = part if len(part) == step else torch.cat([part, part[:1].expand(step - len(part), -1, -1, -1)])
        try:
            (scores,) = self._session.run([self._output], {self._image: filled.contiguous().numpy()})
        # ONNX Runtime raises errors of its own without a common base class
        except Exception as error:
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            msg = f"the graph cannot process images of shape {tuple(filled.shape)}: {first_line}"
            raise ModelOutputInvalid(msg, field="model.preprocessing.crop") from error
        return torch.from_numpy(np.array(scores, np.float32))[: len(part)]


def load(reference: OnnxModel, source: WeightsSource) -> LoadedModel:
    """Open a graph, and convert it to PyTorch if that gives the same outputs.

    Raises:
        ModelNotLoadable: The file is damaged, or ONNX Runtime is not installed.
        UnsafeReference: The graph keeps data in another file.
        ModelOutputInvalid: Input or output has a type or shape that does not fit images or class scores.
        InputError: The file cannot be read.
    """
    path = open_resource(
        reference.uri,
        access=source.access,
        field=FIELD,
        limit_bytes=source.access.limits.weights_bytes,
        sha256=reference.sha256,
        blobs=source.blobs,
    )
    # read once, so that the checked bytes are the ones that run, even if the file changes
    data = path.read_bytes()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    graph = _parsed(data)
    del data
    session = _session(graph, source.device)
    image, output = _only(session.get_inputs(), "input"), _only(session.get_outputs(), "output")
    fixed = _refuse_misfit(image, output, reference.preprocessing.crop)
    runtime = OnnxSource(
        session,
        digest=digest,
        image=image.name,
        output=output.name,
        fixed=fixed,
        note="predictions came from ONNX Runtime",
    )
    black_box = BlackBox(runtime, outputs=reference.outputs, scores=reference.scores)
    if reference.gradients == "never" or fixed is not None:
        return LoadedModel(black_box, reference.preprocessing, reference.scores, trained=True)
    converted = _converted(graph, runtime, reference.preprocessing.crop)
    if isinstance(converted, str):
        runtime._note = f"predictions came from ONNX Runtime, since {converted}"  # noqa: SLF001 - of this module
        return LoadedModel(black_box, reference.preprocessing, reference.scores, trained=True)
    return LoadedModel(converted, reference.preprocessing, reference.scores, trained=True, outputs=reference.outputs)


def _parsed(data: bytes) -> Any:  # noqa: ANN401 - onnx publishes no types
    """The graph, after it was checked that it names no other file and has no unknown fields."""
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
    refuse_external_data(graph, field=FIELD)
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


def _only(tensors: list[Any], what: str) -> Any:  # noqa: ANN401 - ONNX Runtime publishes no types
    if len(tensors) != 1:
        names = ", ".join(repr(tensor.name) for tensor in tensors)
        msg = f"a classifier has one {what}, and the graph has {names}; export it with one"
        raise ModelOutputInvalid(msg, field=FIELD)
    return tensors[0]


def _refuse_misfit(image: Any, output: Any, side: int) -> int | None:  # noqa: ANN401 - onnx publishes no types
    """The batch size of the graph; None if it takes any."""
    for tensor in (image, output):
        if tensor.type != "tensor(float)":
            msg = f"{tensor.name!r} is of type {tensor.type}; export the graph with float32 inputs and outputs"
            raise ModelOutputInvalid(msg, field=FIELD)
    shape = list(image.shape)
    expected = [3, side, side]
    if len(shape) != 1 + len(expected) or any(
        isinstance(found, int) and found != wanted for found, wanted in zip(shape[1:], expected, strict=True)
    ):
        msg = (
            f"input {image.name!r} has shape {shape}, and images are [N, 3, {side}, {side}]; check `preprocessing.crop`"
        )
        raise ModelOutputInvalid(msg, field="model.preprocessing.crop")
    return shape[0] if isinstance(shape[0], int) else None


def _converted(graph: Any, runtime: OnnxSource, side: int) -> nn.Module | str:  # noqa: ANN401 - onnx publishes no types
    """The graph as a PyTorch module, or the reason why there is none with the same outputs."""
    try:
        import onnx2torch  # noqa: PLC0415 - an extra
    except ImportError:
        return "onnx2torch is not installed here"
    images = torch.from_numpy(
        np.random.Generator(np.random.Philox(key=1)).standard_normal((3, 3, side, side), np.float32)
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = _convert(onnx2torch.convert, graph)
            with torch.no_grad():
                found = torch.cat([module(images[:2]), module(images[2:])])
    # unknown operators and wrong conversions fail in many ways
    except Exception as error:  # noqa: BLE001
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        return f"the graph cannot be converted to PyTorch ({first_line})"
    expected = runtime.predict(images)
    if found.shape != expected.shape:
        return "its conversion to PyTorch gives another shape"
    spread = float(expected.max() - expected.min())
    worst = float((found - expected).abs().max())
    if not worst <= AGREEMENT * max(spread, float(np.finfo(np.float32).tiny)):
        return f"its conversion to PyTorch answers otherwise, by {worst:.3g}"
    return module


def _convert(convert: Callable[[Any], nn.Module], graph: Any) -> nn.Module:  # noqa: ANN401 - onnx publishes no types
    """Convert with the graph's own version of the operators, or with an equivalent older one."""
    from onnx import version_converter  # noqa: PLC0415 - an extra

    try:
        return convert(graph).eval()
    except NotImplementedError:
        return convert(version_converter.convert_version(graph, OLDER_OPSET)).eval()
