"""The model under audit: takes pixels, gives logits and gradients, counts passes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from auditcore.contracts.capabilities import PROGRAM, WHITE_BOX, ModelCapabilities
from auditcore.contracts.model_signature import ModelSignature
from auditcore.contracts.models import Scores
from auditcore.contracts.outputs import Outputs, Select
from auditcore.contracts.preprocessing import Preprocessing
from auditcore.contracts.shards import Calibration, Way
from auditcore.contracts.speed import Speed
from auditcore.errors import ModelNotLoadable, ModelOutputInvalid, NotApplicable
from auditcore.models.black_box import BlackBox
from auditcore.models.feature_maps import positions_reach_logits
from auditcore.models.folding import Folded
from auditcore.models.foreign_code import Program, copied, is_program, raised_by_a_signal, said
from auditcore.models.module_forms import ModuleForms
from auditcore.models.pass_ledger import PassLedger
from auditcore.models.passages import Flow, flow_through, last_map
from auditcore.models.plain_copy import plain_copy
from auditcore.models.probe_images import probe_images
from auditcore.models.probing import IMAGES, Probe, Quiet, probe, probe_black_box, refuse_non_finite_weights
from auditcore.models.sanity import LogitGuard
from auditcore.models.speed import Autocast, Compiled
from auditcore.models.state_digests import state_digest, structure_digest
from auditcore.models.static_passes import StaticPasses
from auditcore.models.target_gradient import target_gradient


class Classifier:
    """A frozen image classifier in evaluation mode.

    Attributes:
        module: The network: normalized input (N,C,H,W) to logits (N,classes); parameters need no gradient.
        shape: Channels, height and width of the input.
        colors: What the channels are.
        classes: Number of classes.
        class_names: What the model calls them, in their order; empty if it does not say.
        parameters: Number of parameter values; None for a black box.
        layouts: Layers that give feature maps of more than one position, with how they lay them out, in the order in
            which they last ran.
        feature_layers: Their paths.
        convolutions: Those of them that are convolutions.
        capabilities: What it lets an audit see; everything, unless it is a black box.
        memory_format: Layout in memory of images and kernels: channels last, unless the model then answers otherwise.
        notes: What a reader of the report should know of the model.
        source: Where the predictions of a black box come from; None for a model of PyTorch.
        digest: sha256 over all parameters and buffers; what its source says, for a black box.
        structure: sha256 over names and shapes of all parameters and buffers; None for a black box.
        trained: False for random weights.
        mean: Per-channel mean (1,C,1,1) in pixel space; also the mean color used as a fill.
        std: Per-channel standard deviation (1,C,1,1).
        calibration: Size of micro-batches and speed, once measured.
        fixed_size: The size that was given for that measurement; None if the size was chosen.
        ledger: Passes made so far, over the module and its folded and canonical copies.
        guard: Knows whether logits were finite.
        static: Recorded passes of a fixed size on CUDA, if they are faster; None otherwise.
        static_failure: Why they could not be compiled.
        ways_tried: Ways of running passes that were measured on this model.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        preprocessing: Preprocessing,
        scores: Scores = "softmax",
        device: torch.device | str = "cpu",
        trained: bool = True,
        outputs: Outputs = "logits",
        select: Select | None = None,
        notes: Sequence[str] = (),
        signature: ModelSignature | None = None,
        class_names: Sequence[str] = (),
    ) -> None:
        """Take a private copy of `module`, freeze it and pass a few images through it.

        Args:
            module: The network.
            preprocessing: How a photo becomes its input.
            scores: How logits become probabilities.
            device: Where it computes.
            trained: False for random weights.
            outputs: What the network returns. Whatever it is, `logits` returns logits.
            select: Entry of what it returns that holds the class scores, if it returns several.
            notes: What a reader of the report should know of how it was loaded.
            signature: The signature of its files that was verified.
            class_names: What it calls its classes; names of another number of classes are not its own.

        Raises:
            NonFiniteWeights: A parameter or buffer is NaN or infinite.
            ModelNotLoadable: The network cannot be copied.
            ModelOutputInvalid: It is not a deterministic function from images to one row of class scores, or the scores
                are not what `outputs` says.
        """
        self.device = torch.device(device)
        self.preprocessing = preprocessing
        self.scores: Scores = scores
        self.trained = trained
        self.signature = signature
        self.shape = preprocessing.shape
        self.colors = preprocessing.colors_seen
        self.source = module.source if isinstance(module, BlackBox) else None
        self.capabilities: ModelCapabilities = WHITE_BOX if self.source is None else self.source.capabilities
        self.mean = torch.tensor(preprocessing.mean, device=self.device).view(1, -1, 1, 1)
        self.std = torch.tensor(preprocessing.std, device=self.device).view(1, -1, 1, 1)
        self._quiet: Quiet = torch.inference_mode
        found = self._probed(module, outputs=outputs, select=select)
        if found.keeps_tensors:
            self._quiet = torch.no_grad
            found = self._probed(module, outputs=outputs, select=select)
        self.module = found.module
        self.memory_format = found.memory_format
        self.classes, self.layouts = found.classes, found.layouts
        self.class_names = tuple(class_names) if len(class_names) == found.classes else ()
        self.notes = (*notes, *found.notes)
        if self.source is None:
            self.capabilities, reasons = _capabilities(found)
            self.notes = (*self.notes, *reasons)
            self.parameters: int | None = sum(parameter.numel() for parameter in self.module.parameters())
            self.digest = state_digest(self.module)
            self.structure: str | None = structure_digest(self.module)
        else:
            self.parameters, self.digest, self.structure = None, self.source.digest, None
        self.feature_layers = tuple(self.layouts)
        self.convolutions = tuple(
            name
            for name in self.feature_layers
            if isinstance(self.module.get_submodule(name), (nn.Conv2d, nn.ConvTranspose2d))
        )
        self.calibration: Calibration | None = None
        self.fixed_size: int | None = None
        self._exact: Classifier | None = None
        self._faster: dict[Speed, Classifier] = {}
        self.guard = LogitGuard(one_color=found.one_color)
        self._one_color = found.one_color
        self.static: StaticPasses | None = None
        self.static_failure: str | None = None
        self.ways_tried: set[Way] = set()
        self.ledger = PassLedger()
        self.ledger.attach(self.module)
        # a black box and a program cannot be folded
        given = None if self.source is None and self.capabilities.layers else self.module
        self._forms = ModuleForms(
            self.module, shape=self.shape, ledger=self.ledger, memory_format=self.memory_format, folded=given
        )

    def _probed(self, module: nn.Module, *, outputs: Outputs, select: Select | None) -> Probe:
        """Copy and freeze a module and pass images of a probe through the copy."""
        inputs = (probe_images(self.shape, count=IMAGES).to(self.device) - self.mean) / self.std
        if isinstance(module, BlackBox):
            return probe_black_box(module, inputs)
        if isinstance(module, torch.jit.ScriptModule):
            module = Program(module)
        try:
            return self._tried(module, inputs, outputs=outputs, select=select, as_float32=True)
        except ModelOutputInvalid as error:
            types = {value.dtype for value in module.parameters() if value.is_floating_point()}
            if types <= {torch.float32}:
                raise
            # a forward that converts its images, such as by x.half(), needs weights of their type
            try:
                found = self._tried(module, inputs, outputs=outputs, select=select, as_float32=False)
            except ModelOutputInvalid:
                raise error from None
            named = ", ".join(sorted(str(one).removeprefix("torch.") for one in types))
            note = f"the model computes with weights of {named}, since its code does not run with float32"
            return replace(found, notes=(*found.notes, note))

    def _tried(
        self, module: nn.Module, inputs: Tensor, *, outputs: Outputs, select: Select | None, as_float32: bool
    ) -> Probe:
        """Pass the images through a copy of a module, whose weights are converted to float32 or stay as they are."""
        module, notes = plain_copy(module)
        _switch_to_evaluation(module)
        module = module.to(self.device)
        if as_float32:
            # not `to(torch.float32)`, which drops the imaginary part of complex weights
            module = module.float()
        refuse_non_finite_weights(module)
        for parameter in module.parameters():
            # TorchScript has no `requires_grad_` of a whole module
            parameter.requires_grad = False
        found = probe(
            module,
            inputs,
            shape=self.shape,
            outputs=outputs,
            scores=self.scores,
            select=select,
            quiet=self._quiet,
        )
        return replace(found, notes=(*notes, *found.notes))

    @cached_property
    def feature_grids(self) -> tuple[str, ...]:
        """Feature layers with tokens or channels last whose positions still reach the logits, in running order.

        Transformers have them in place of convolutions. Found by one forward and backward pass outside the ledger.
        """
        grids = {name: layout for name, layout in self.layouts.items() if layout != "channels_first"}
        if not (self.capabilities.gradients and self.capabilities.layers):
            return ()
        reaching = positions_reach_logits(self.module, grids, shape=self.shape) if grids else frozenset()
        return tuple(name for name in grids if name in reaching)

    @cached_property
    def flows(self) -> tuple[Flow, ...]:
        """What flows through each feature layer, in running order.

        Found by one pass outside the ledger.
        """
        if not (self.layouts and self.capabilities.gradients and self.capabilities.layers):
            return ()
        return flow_through(self.module, self.layouts, shape=self.shape, device=self.device)

    @cached_property
    def last_feature_layer(self) -> str | None:
        """The last feature map around which nothing flows to the logits; None if there is none.

        The output of the last block, not of a convolution inside of it, of a branch, a shortcut or a gate.
        """
        first = (name for name, layout in self.layouts.items() if layout == "channels_first")
        reaching = frozenset((*first, *self.feature_grids))
        return last_map(self.module, self.layouts, self.flows, reaching, shape=self.shape)

    @property
    def low(self) -> Float[Tensor, "1 channel 1 1"]:
        """Normalized value of black, per channel."""
        return (0 - self.mean) / self.std

    @property
    def high(self) -> Float[Tensor, "1 channel 1 1"]:
        """Normalized value of white, per channel."""
        return (1 - self.mean) / self.std

    def normalize(
        self, pixels: Float[Tensor, "image channel height width"]
    ) -> Float[Tensor, "image channel height width"]:
        """From pixel space [0,1] to the space in which the model computes."""
        normalized: Tensor = (pixels - self.mean) / self.std
        return normalized.contiguous(memory_format=self.memory_format)

    def logits(self, pixels: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Logits of images in pixel space; no gradient.

        Raises:
            ModelOutputInvalid: A logit on the CPU is NaN or infinite; on an accelerator `guard.require_finite` says so.
        """
        output = self.score(self.normalize(pixels))
        self.guard.see(output)
        return output

    def score(self, inputs: Float[Tensor, "image channel height width"]) -> Float[Tensor, "image class"]:
        """Logits of normalized images, without gradient and without a check that they are finite."""
        static = self.static
        if static is not None and static.takes("logits", len(inputs)):
            self.ledger.count(forward=len(inputs))
            return static.logits(inputs)
        with self._quiet():
            output: Tensor = self.folded(inputs)
        return output

    def gradient(
        self, inputs: Float[Tensor, "image channel height width"], targets: Int[Tensor, " image"] | None
    ) -> tuple[Float[Tensor, "image channel height width"], Float[Tensor, "image class"]]:
        """Gradient of each image's target logit with respect to its normalized input, and the logits; both detached.

        Args:
            inputs: Normalized images.
            targets: Class of each image; the most probable one if None.
        """
        static = self.static
        if static is not None and static.takes("predicted" if targets is None else "gradient", len(inputs)):
            self.ledger.count(forward=len(inputs), backward=len(inputs))
            return static.gradient(inputs, targets)
        return target_gradient(self.folded, inputs, targets)

    def probabilities(self, logits: Float[Tensor, "image class"]) -> Float[Tensor, "image class"]:
        """Class probabilities in [0,1] of logits: softmax, or sigmoid for multi-label models."""
        return logits.softmax(dim=1) if self.scores == "softmax" else logits.sigmoid()

    def predicts(self, logits: Float[Tensor, "image class"], targets: Int[Tensor, " image"]) -> Bool[Tensor, " image"]:
        """Whether the target is predicted: the most probable class, or at least 0.5 for multi-label models."""
        if self.scores == "softmax":
            return logits.argmax(dim=1) == targets
        return logits.gather(1, targets[:, None])[:, 0] >= 0

    def target_probability(
        self, pixels: Float[Tensor, "image channel height width"], targets: Int[Tensor, " image"]
    ) -> Float[Tensor, " image"]:
        """Probability of each image's target class."""
        return self.probabilities(self.logits(pixels)).gather(1, targets[:, None])[:, 0]

    @property
    def folded(self) -> nn.Module:
        """The same function with fewer operations, for passes of which only logits and input gradients are read.

        The module itself where torch.fx cannot trace it, for black boxes, and for altered copies, which make few
        passes each.
        """
        return self._forms.folded

    def readable(self, layers: Sequence[str]) -> Folded:
        """The model for passes that read outputs of layers too: folded around them where that is possible.

        Altered copies, faster modes and models that cannot be folded run as they are.
        """
        return self._forms.readable(layers)

    @property
    def canonical(self) -> nn.Module:
        """The same function in canonical form, for rules that replace the gradient of single layers.

        Raises:
            NotApplicable: The model's forward cannot be traced into a graph.
        """
        return self._forms.canonical

    def canonical_or_reason(self) -> nn.Module | str:
        """The canonical form, or why there is none."""
        try:
            return self.canonical
        except NotApplicable as error:
            return error.message

    @property
    def exact(self) -> Classifier:
        """The same classifier in float32, not compiled: itself, unless it came from `at_speed`."""
        return self if self._exact is None else self._exact

    @property
    def compilation_failure(self) -> str | None:
        """Why the model could not be compiled and runs as it is; None if nothing has failed."""
        return self.folded.failure if isinstance(self.folded, Compiled) else self.static_failure

    def at_speed(self, speed: Speed) -> Classifier:
        """The same classifier run in a faster way; made once, so that a warm model stays compiled.

        Logits are always float32. Only passes whose logits or input gradients are read are compiled: hooks on layers,
        which Grad-CAM and information bottlenecks need, have no effect inside compiled code. The canonical form stays
        exact. All passes count in the same ledger. A black box is returned unchanged.
        """
        exact = self.exact
        if speed.exact or self.source is not None:
            return exact
        if speed not in exact._faster:  # noqa: SLF001 - of its own class, here and below
            faster = copy.copy(exact)
            faster._exact = exact  # noqa: SLF001
            faster.calibration, faster.fixed_size = None, None
            faster.static, faster.static_failure, faster.ways_tried = None, None, set()
            # found once, by passes in float32
            faster.__dict__["feature_grids"] = exact.feature_grids
            faster.__dict__["flows"] = exact.flows
            faster.__dict__["last_feature_layer"] = exact.last_feature_layer
            module, folded = exact.module, exact.folded
            if speed.precision == "bf16":
                module = Autocast(exact.module, self.device)
                folded = Autocast(exact.folded, self.device)
                self.ledger.attach(module)
                self.ledger.attach(folded)
            if speed.compile and self.device.type != "cuda":  # there, `engine.ways` compiles passes of a fixed size
                folded = Compiled(folded, gradients=self.device.type != "cpu")
                self.ledger.attach(folded)
            faster.module = module
            faster._forms = ModuleForms(  # noqa: SLF001
                module,
                shape=self.shape,
                ledger=self.ledger,
                memory_format=self.memory_format,
                folded=folded,
                canonical_of=exact._forms,  # noqa: SLF001
            )
            exact._faster[speed] = faster  # noqa: SLF001
        return exact._faster[speed]  # noqa: SLF001

    def altered(self, alter: Callable[[nn.Module], None], *, digest: str) -> Classifier:
        """The same classifier with a copy of its module that `alter` changed in place.

        Cheap: nothing is hashed or probed. Passes through the copy count in the same ledger.

        Args:
            alter: Changes values of parameters and buffers; the layers stay.
            digest: Content address of the result.
        """
        if self._exact is not None:
            # a copy makes too few passes to win back the time of compiling; autocast needs no such time
            speed = next(speed for speed, faster in self._exact._faster.items() if faster is self)  # noqa: SLF001
            return self._exact.altered(alter, digest=digest).at_speed(Speed(precision=speed.precision))
        other = copy.copy(self)
        other._faster = {}  # noqa: SLF001
        other.static, other.static_failure, other.guard = None, None, LogitGuard(one_color=self._one_color)
        # the ledger itself is not copied, so that the copied hooks of the module still count in it
        other.module = copied(self.module, shared=(self.ledger,))
        alter(other.module)
        other.digest = digest
        other._forms = ModuleForms(  # noqa: SLF001
            other.module,
            shape=self.shape,
            ledger=self.ledger,
            memory_format=self.memory_format,
            folded=other.module,
        )
        return other


def _switch_to_evaluation(module: nn.Module) -> None:
    """Switch a module to evaluation.

    Raises:
        ModelNotLoadable: It has a method `eval` or `train` of its own that fails.
    """
    try:
        module.eval()
    # PyTorch calls methods of these names, and those of the model are foreign code
    except Exception as error:
        if raised_by_a_signal(error):
            raise
        msg = (
            f"the model cannot be switched to evaluation ({said(error)}); `eval` and `train` of a module belong to "
            "PyTorch, so give a method of yours, such as a training loop, another name"
        )
        raise ModelNotLoadable(msg, field="model") from error


_KEEP_AXIS = "keep the axis of images: flatten(1) in place of squeeze() and view()"


def _capabilities(found: Probe) -> tuple[ModelCapabilities, tuple[str, ...]]:
    """What an audit can use of a model in PyTorch, and notes on what it cannot use."""
    if found.no_gradients is not None:
        reason = (
            f"it needs gradients, and the model's logits have none by its input ({found.no_gradients}); use methods "
            "that need only predictions, or compute the logits from the image without torch.no_grad, argmax or detach"
        )
        limited = ModelCapabilities(gradients=False, layers=False, weights=False, limitation=reason)
        return limited, (f"the model gives no gradients by its input: {found.no_gradients}",)
    if is_program(found.module):
        return PROGRAM, ()
    if found.habits is not None and found.habits.batches != "any":
        takes, fix = {
            "single": ("one image at once", _KEEP_AXIS),
            "several": ("no batch of one image", _KEEP_AXIS),
            "even": ("only even batches", "compute each image by itself"),
        }[found.habits.batches]
        reason = (
            f"it reads or alters layers, and the model takes {takes}, so its layers do not see the images of a pass; "
            f"{fix}"
        )
        return ModelCapabilities(layers=False, limitation=reason), ()
    return WHITE_BOX, ()
