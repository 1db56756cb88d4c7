"""Everything that can be chosen about a training run.

Each class is one table of a settings file; see ``examples/``. Values are checked where they enter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from tsn_hw.core.arithmetic import ActFormat
from tsn_hw.core.errors import SettingsError


def _require(rule: bool, where: str, value: Any, must: str) -> None:
    if not rule:
        raise SettingsError(f"{where} = {value!r}: must be {must}")


@dataclass(frozen=True)
class DataSettings:
    """A data set that is read from files: their kind, and where they are."""

    source: Literal["digits", "idx", "npz", "cifar", "svhn", "folder", "tinyimagenet", "tiles"] = "digits"
    """Kind of the files; ``digits`` come with scikit-learn and need none."""
    path: str = ""
    """File or folder of the data; a relative one starts at the settings file."""
    name: str = ""
    """Name of the data set, in the names of its tasks; empty: its kind."""
    side: int = 0
    """Of tiles: their height and width in pixels; of image folders: what images are resized to."""
    limit: int = 0
    """Images that are kept of every class, for quick runs; 0: all."""
    normalize: bool = False
    """Of .npz files: bring every channel, or feature of a table, to mean 0 and standard deviation 1 of the training
    part."""
    fill: float | None = None
    """Of .npz files: what stands for a missing value, after normalization; without it missing values are refused."""
    test_share: float = 0.0
    """Of .npz files without a test part: the share of the samples that becomes one."""


@dataclass(frozen=True)
class StreamSettings:
    """How data becomes a sequence of tasks."""

    kind: Literal["permuted", "split", "mixed"] = "permuted"
    """``permuted``: fixed pixel permutations of the first data set; ``split``: its classes, some at a time; ``mixed``:
    one task a data set."""
    tasks: int = 5
    """Number of tasks of permuted pixels."""
    natural_first: bool = False
    """Leave all pixels of the first permuted task in place."""
    classes_per_task: int = 2
    """Classes of every task of a split data set."""
    side: int = 32
    """Height and width to which a mixed stream brings all images."""
    channels: Literal[1, 3] = 3
    """Channels to which a mixed stream brings all images."""
    validation_share: float = 0.1
    """Share of the training images that decides when training stops and what is pruned and quantized."""

    def __post_init__(self) -> None:
        _require(1 <= self.tasks <= 4096, "stream.tasks", self.tasks, "1..4096")
        _require(0 < self.validation_share < 1, "stream.validation_share", self.validation_share, "between 0 and 1")


LayerKind: TypeAlias = Literal["Linear", "Conv2d", "MaxPool", "AvgPool", "Add", "Flatten", "Pad"]
"""Kinds of layers that a body may have."""


@dataclass(frozen=True)
class LayerSettings:
    """One layer of a body, as ``[[model.layers]]`` describes it."""

    kind: LayerKind
    """Kind of the layer."""
    name: str
    """Name of the layer; names are unique."""
    inputs: tuple[str, ...] = ()
    """Names of the layers that it reads, ``input`` is the network's; without them it reads the layer before."""
    width: int = 0
    """Output channels of a Conv2d, output features of a Linear."""
    kernel: tuple[int, ...] = ()
    """Window as (height, width); one number is of a window along the last axis, as a Conv1d has it. A pool without a
    kernel takes the whole map."""
    stride: tuple[int, ...] = ()
    """Step of the window, as ``kernel``; without one, that of a pool is the kernel."""
    padding: tuple[int, ...] = ()
    """Zeros around the map, as ``kernel``; four numbers are top, left, bottom, right; those of a pool count as
    zeros."""
    dilation: tuple[int, ...] = ()
    """Of a Conv2d, as ``kernel``."""
    groups: int = 1
    """Of a Conv2d; as many as it has input channels make it depthwise."""
    relu: bool = True
    """Whether negative outputs become 0, of layers that compute."""
    batch_norm: bool = False
    """Whether a batch norm follows, of a Conv2d or Linear."""
    clip: float = 0.0
    """Largest magnitude of the output in float networks, 6 for a ReLU6; 0 is none. Quantized networks saturate where
    the grid of the activation ends."""
    dropout: float = 0.0
    """Probability that an element of the output is dropped while training."""

    def __post_init__(self) -> None:
        where, kinds = f"layer {self.name!r}", get_args(LayerKind)
        _require(self.kind in kinds, f"{where}: kind", self.kind, f"one of {', '.join(kinds)}")
        _require(0 <= self.dropout <= 0.9, f"{where}: dropout", self.dropout, "0..0.9")
        _require(self.clip >= 0, f"{where}: clip", self.clip, "at least 0")
        _require(0 <= self.width <= 65536, f"{where}: width", self.width, "1..65536")

    def sides(self) -> tuple[int, int, int, int]:
        """The padding as (top, left, bottom, right)."""
        if len(self.padding) == 4:
            return self.padding
        pair = self.pair("padding", (0, 0))
        return *pair, *pair

    def pair(self, name: str, default: tuple[int, ...]) -> tuple[int, int]:
        """A field of the window as (height, width); SettingsError if it has not one number or two."""
        given: tuple[int, ...] = getattr(self, name) or default
        if len(given) == 1:
            given = (0 if name == "padding" else 1, *given)
        _require(len(given) == 2, f"layer {self.name!r}: {name}", list(given), "one number or [height, width]")
        return given[0], given[1]


@dataclass(frozen=True)
class ModelSettings:
    """The body that all tasks share."""

    kind: Literal["mlp", "alexnet", "tinynet", "resnet18", "layers", "onnx"] = "mlp"
    """A body by its name, ``layers`` that are listed, or those of a float model in an ``onnx`` file, for inputs of any
    size."""
    path: str = ""
    """The ONNX file; a relative one starts at the settings file."""
    layers: tuple[LayerSettings, ...] = ()
    """The layers of kind ``layers``, in their order."""
    hidden: tuple[int, ...] = (100, 100)
    """Widths of the hidden Linear layers, of mlp, alexnet and tinynet."""
    channels: tuple[int, ...] = (64, 128, 256)
    """Channels of the convolutions, of alexnet and tinynet."""
    width: int = 20
    """Channels of the first stage, of resnet18."""
    batch_norm: bool = False
    """Whether every task has a batch norm behind every Conv2d and Linear of the body; an ONNX file says it itself."""
    dropout: float = 0.0
    """Probability that an element is dropped while training: of an mlp's input, of the hidden layers of other
    bodies."""
    pretrained: bool = False
    """Whether the first task of every bank starts from the weights of an ONNX file instead of noise."""
    start: str = ""
    """SHA-256 of the weights that it starts from: a run notes it, and keeps them in its folder."""

    def __post_init__(self) -> None:
        _require(0 <= self.dropout <= 0.9, "model.dropout", self.dropout, "0..0.9")
        for name in ("hidden", "channels"):
            widths = getattr(self, name)
            _require(all(1 <= width <= 65536 for width in widths), f"model.{name}", widths, "widths of 1..65536")
        _require(1 <= self.width <= 8192, "model.width", self.width, "1..8192")


ActBits: TypeAlias = Literal[4, 8, 16]
"""Widths that an activation may have."""


@dataclass(frozen=True)
class Formats:
    """Number formats of a network (arithmetic.md 1, 3)."""

    act_bits: ActBits = 8
    """Bits of every activation; images enter with at most 8 (a pixel is its own integer)."""
    centroid_bits: int = 8
    """Bits of the integers that codebooks hold."""
    multiplier_bits: int = 12
    """Bits of the integer that batch norm becomes, one a channel."""
    headroom: float = 4.0
    """The weight grid reaches headroom / sqrt(fan-in)."""
    input_bits: int = 0
    """Bits of inputs that are values, not pixels: real = integer * 2**exponent; 0: ``act_bits``, at most 8."""
    input_signed: bool = False
    """Whether such inputs have a sign; without ``input_exponent`` this follows from the first task."""
    input_exponent: int | None = None
    """Exponent of such inputs; without it, sign and exponent follow from the first task."""

    def __post_init__(self) -> None:
        _require(0 <= self.input_bits <= 16, "formats.input_bits", self.input_bits, "0..16")
        exponent = self.input_exponent
        _require(exponent is None or -64 <= exponent <= 64, "formats.input_exponent", exponent, "-64..64")
        _require(4 <= self.centroid_bits <= 16, "formats.centroid_bits", self.centroid_bits, "4..16")
        _require(2 <= self.multiplier_bits <= 16, "formats.multiplier_bits", self.multiplier_bits, "2..16")
        _require(self.headroom > 0, "formats.headroom", self.headroom, "above 0")

    @property
    def input(self) -> ActFormat:
        """Format of the network's input: unsigned pixels, real = integer / 2**bits, unless the settings say another."""
        bits = self.input_bits or min(8, self.act_bits)
        return ActFormat(bits, self.input_signed, -bits if self.input_exponent is None else self.input_exponent)

    @property
    def centroid_range(self) -> tuple[int, int]:
        """Smallest and largest centroid."""
        return -(1 << (self.centroid_bits - 1)), (1 << (self.centroid_bits - 1)) - 1


@dataclass(frozen=True)
class TrainSettings:
    """How one task is learned after another."""

    method: Literal["tsn", "wsn", "packnet", "ada_qpacknet", "finetune"] = "tsn"
    """How a task chooses its weights, and what is kept of them."""
    epochs: int = 40
    """Epochs of every task, at most."""
    batch: int = 64
    """Samples of a training step."""
    lr: float = 4e-3
    """Learning rate at the start."""
    schedule: Literal["plateau", "cosine", "one_cycle"] = "cosine"
    """``cosine`` lowers the learning rate over ``epochs``; ``one_cycle`` raises it to ``lr`` before, over three tenths
    of them; ``plateau`` lowers it where the validation loss stands still."""
    patience: int = 6
    """Of ``plateau``: epochs without a better validation loss before the learning rate falls."""
    decay: float = 0.5
    """Of ``plateau``: what the learning rate is multiplied with."""
    lr_floor: float = 1e-5
    """Of ``plateau``: the learning rate below which training stops."""
    keep_policy: Literal["constant", "equal_remaining", "per_layer"] = "constant"
    """``constant`` keeps ``keep_ratio`` of every layer; ``equal_remaining`` keeps 1 / (tasks still expected);
    ``per_layer`` looks layers up in ``keep_table``."""
    keep_ratio: float = 0.2
    """Share of a layer's weights that a task may use."""
    keep_table: dict[str, float] = field(default_factory=dict)
    """Keep ratio by the name of the layer; ``keep_ratio`` for those that are not listed."""
    inherit: float = 1.0
    """What a new task's scores are of those that the bank's last task left: 1 keeps them, which makes masks alike; a
    tenth keeps their order and lets them turn, where tasks need other weights."""
    ramp: float = 0.0
    """Share of the steps over which the keep ratio falls from 1 (cubic); 0 is off."""
    threads: int = 0
    """Threads of torch on the CPU; 0 leaves torch's choice. The sums of two thread counts are rounded differently, so a
    fixed number gives the same bytes on any number of cores, and small networks are fastest with 1."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products in training steps; ``bfloat16`` is for GPUs that are faster at it. Sums, rounding, batch norm's
    statistics, weights and evaluation stay as they are, and so do the integers of what is committed."""
    mirror: bool = False
    """Mirror half of the images of every step left to right; for photographs, not for permuted pixels."""
    shift: int = 0
    """Move the images of every step by up to so many pixels in both directions; for photographs."""
    transfer: bool = False
    """Also learn every task alone, to measure forward transfer (doubles the time)."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "train.epochs", self.epochs, "at least 1")
        _require(self.batch >= 2, "train.batch", self.batch, "at least 2")
        _require(self.lr > 0, "train.lr", self.lr, "above 0")
        _require(self.patience >= 1, "train.patience", self.patience, "at least 1")
        _require(0 < self.decay < 1, "train.decay", self.decay, "between 0 and 1")
        _require(0 <= self.threads <= 256, "train.threads", self.threads, "0..256")
        _require(0 <= self.shift <= 64, "train.shift", self.shift, "0..64")
        _require(0 < self.keep_ratio <= 1, "train.keep_ratio", self.keep_ratio, "above 0, at most 1")
        _require(0 < self.inherit <= 1, "train.inherit", self.inherit, "above 0, at most 1")
        _require(0 <= self.ramp <= 1 - 1 / self.epochs, "train.ramp", self.ramp, "at least 0 and leave an epoch")
        for layer, ratio in self.keep_table.items():
            _require(0 < ratio <= 1, f"train.keep_table.{layer}", ratio, "above 0, at most 1")

    def keep(self, layer: str, task: int, tasks: int) -> float:
        """Keep ratio of a layer for one task of a stream."""
        if self.keep_policy == "equal_remaining":
            return 1 / (tasks - task)
        return self.keep_table.get(layer, self.keep_ratio) if self.keep_policy == "per_layer" else self.keep_ratio


@dataclass(frozen=True)
class PruneSettings:
    """Post-pruning: greedy steps after training, each on a share of a layer's weights."""

    iterations: int = 20
    """Number of steps."""
    share: float = 0.2
    """Share of a layer's weights that a step takes away."""
    tolerated_drop: float = 0.2
    """Percentage points of validation accuracy that all steps together may cost."""
    by: Literal["own", "coded_size"] = "own"
    """``own`` removes own weights, the smallest first; ``coded_size`` removes shared ones from the mask too, and only
    where masks and codes shrink by it."""

    def __post_init__(self) -> None:
        _require(self.iterations >= 0, "prune.iterations", self.iterations, "at least 0")
        _require(0 < self.share <= 1, "prune.share", self.share, "above 0, at most 1")
        _require(self.tolerated_drop >= 0, "prune.tolerated_drop", self.tolerated_drop, "at least 0")


@dataclass(frozen=True)
class QuantizeSettings:
    """Adaptive bit-width: the smallest code width within ``tolerated_drop`` points."""

    min_bits: int = 2
    """Smallest code width that is tried."""
    max_bits: int = 8
    """Largest code width that is tried."""
    tolerated_drop: float = 0.5
    """Percentage points of validation accuracy that codebooks may cost."""
    per_layer: bool = False
    """Afterwards try one bit less, layer by layer."""
    share_codebooks: bool = False
    """Afterwards put a layer on the nearest codebook of an earlier task of the bank, where that is no wider and
    accuracy stays within ``tolerated_drop``."""
    qat_bits: int = 2
    """At this width or below, train on with the codebook in the loop, because codebooks of 1 and 2 bits lose accuracy
    when they are only fitted afterwards."""
    qat_epochs: int = 10
    """Epochs of training on with the codebook in the loop."""
    head_bits: int = 5
    """Code width of the heads."""
    probe_bits: tuple[int, ...] = ()
    """Also tell test accuracy with the codebooks of these widths as they are fitted after training."""

    def __post_init__(self) -> None:
        _require(
            1 <= self.min_bits <= self.max_bits <= 8,
            "quantize.min_bits, max_bits",
            (self.min_bits, self.max_bits),
            "ordered, within 1..8",
        )
        _require(1 <= self.head_bits <= 8, "quantize.head_bits", self.head_bits, "1..8")
        _require(all(1 <= b <= 8 for b in self.probe_bits), "quantize.probe_bits", self.probe_bits, "widths of 1..8")
        _require(self.tolerated_drop >= 0, "quantize.tolerated_drop", self.tolerated_drop, "at least 0")
        _require(self.qat_epochs >= 1, "quantize.qat_epochs", self.qat_epochs, "at least 1")


RETIRED = {"estimator": "gaussian", "factor": 3.0, "floor": 0.05}
"""Keys of ``route`` that the settings of older runs have, and their defaults."""


@dataclass(frozen=True)
class RouteSettings:
    """KL routing into banks."""

    enabled: bool = False
    """Whether tasks are routed; without, all tasks share one bank."""
    memory: Literal["stats", "samples_act", "samples_input"] = "stats"
    """What a task leaves behind for later ones: ``stats`` (two numbers a unit), or samples of activations or inputs."""
    samples: int = 100
    """Number of samples that a task leaves behind."""
    bits: int = 8
    """Bits of every number in them: 4, 8 or 16."""
    threshold: float = 0.0
    """Divergence, of 0 to 1, above which a task opens a new bank; 0 takes of every bank what it has room for: the
    fourth root of its free weights over those that the task keeps."""
    max_banks: int = 8
    """Banks at most."""

    def __post_init__(self) -> None:
        _require(self.samples >= 2, "route.samples", self.samples, "at least 2")
        _require(self.bits in (4, 8, 16), "route.bits", self.bits, "4, 8 or 16")
        _require(self.threshold >= 0, "route.threshold", self.threshold, "at least 0")
        _require(self.max_banks >= 1, "route.max_banks", self.max_banks, "at least 1")


@dataclass(frozen=True)
class Settings:
    """One training run."""

    data: tuple[DataSettings, ...] = (DataSettings(),)
    """One data set, or one a task for a mixed stream."""
    stream: StreamSettings = StreamSettings()
    """How data becomes tasks."""
    model: ModelSettings = ModelSettings()
    """The body."""
    formats: Formats = Formats()
    """Number formats."""
    train: TrainSettings = TrainSettings()
    """How a task is learned."""
    prune: PruneSettings = PruneSettings()
    """What is taken away afterwards."""
    quantize: QuantizeSettings = QuantizeSettings()
    """How weights become codes."""
    route: RouteSettings = RouteSettings()
    """How tasks are spread over banks."""
    seed: int = 0
    """Of everything random; the same seed gives the same bytes."""
