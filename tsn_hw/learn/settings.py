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
    """A data set that is read from files: their kind (:mod:`tsn_hw.learn.data.images`), and where they are.

    ``name`` is the kind unless given; ``side`` (pixels) is for image folders and tiles; ``limit`` keeps that many
    images a class, for quick runs; 0 leaves both out. A relative ``path`` starts at the settings file.
    ``normalize``, ``fill`` and ``test_share`` are for .npz files (:class:`~tsn_hw.learn.data.own.Preparation`).
    """

    source: Literal["digits", "idx", "npz", "cifar", "svhn", "folder", "tinyimagenet", "tiles"] = "digits"
    path: str = ""
    name: str = ""
    side: int = 0
    limit: int = 0
    normalize: bool = False
    fill: float | None = None
    test_share: float = 0.0


@dataclass(frozen=True)
class StreamSettings:
    """How data becomes a sequence of tasks.

    permuted: ``tasks`` fixed pixel permutations of the first data set, of which the first leaves all pixels in place if
    ``natural_first``; split: its classes, ``classes_per_task`` at a time; mixed: one task a data set, all brought to
    ``channels`` x ``side`` x ``side``.
    """

    kind: Literal["permuted", "split", "mixed"] = "permuted"
    tasks: int = 5
    natural_first: bool = False
    classes_per_task: int = 2
    side: int = 32
    channels: Literal[1, 3] = 3
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        _require(1 <= self.tasks <= 4096, "stream.tasks", self.tasks, "1..4096")
        _require(0 < self.validation_share < 1, "stream.validation_share", self.validation_share, "between 0 and 1")


LayerKind: TypeAlias = Literal["Linear", "Conv2d", "MaxPool", "AvgPool", "Add", "Flatten", "Pad"]
"""Kinds of layers that a body may have."""


@dataclass(frozen=True)
class LayerSettings:
    """One layer of a body, as ``[[model.layers]]`` describes it.

    kind, name: of the layer; names are unique.
    inputs:     names of the layers that it reads, ``input`` is the network's; without them it reads the layer before.
    width:      output channels of a Conv2d, output features of a Linear.
    kernel, stride, padding: (height, width); one number is of a window along the last axis, as a Conv1d has it. A pool
                without a kernel takes the whole map, without a stride the stride is the kernel.
                Four numbers of padding are top, left, bottom, right; those of a pool count as zeros.
    dilation:   of a Conv2d, (height, width).
    groups:     of a Conv2d; as many as it has input channels make it depthwise.
    relu, batch_norm: of layers that compute; a batch norm belongs to a Conv2d or Linear.
    clip:       largest magnitude of the output in float networks, 6 for a ReLU6; 0 is none. Quantized networks saturate
                where the grid of the activation ends.
    dropout:    probability that an element of the output is dropped while training.
    """

    kind: LayerKind
    name: str
    inputs: tuple[str, ...] = ()
    width: int = 0
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    relu: bool = True
    batch_norm: bool = False
    clip: float = 0.0
    dropout: float = 0.0

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
    """The body that all tasks share.

    ``mlp`` of ``hidden`` widths, ``alexnet`` and ``tinynet`` of ``channels`` and ``hidden`` widths, ``resnet18`` of
    ``width`` channels in its first stage; ``layers`` one after the other as they are listed; ``onnx``, the layers
    of the float model in the file ``path``, for inputs of any size; a relative one starts at the settings file.
    """

    kind: Literal["mlp", "alexnet", "tinynet", "resnet18", "layers", "onnx"] = "mlp"
    path: str = ""
    layers: tuple[LayerSettings, ...] = ()
    hidden: tuple[int, ...] = (100, 100)
    channels: tuple[int, ...] = (64, 128, 256)
    width: int = 20
    batch_norm: bool = False
    dropout: float = 0.0

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
    """Number formats of a network (arithmetic.md 1, 3).

    act_bits:        of every activation; images enter with at most 8 (a pixel is its own integer)
    input_bits, input_signed, input_exponent: of inputs that are values, not pixels: real = integer * 2**exponent; bits
                     of 0 are at most 8, and without an exponent sign and exponent follow from the first task
    centroid_bits:   of the integers that codebooks hold
    multiplier_bits: of the integer that batch norm becomes, one a channel
    headroom:        the weight grid reaches headroom / sqrt(fan-in)
    """

    act_bits: ActBits = 8
    centroid_bits: int = 8
    multiplier_bits: int = 12
    headroom: float = 4.0
    input_bits: int = 0
    input_signed: bool = False
    input_exponent: int | None = None

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
    """How one task is learned after another.

    method: how a task chooses its weights, and what is kept of them (:mod:`tsn_hw.learn.methods`).
    keep_policy: ``constant`` keeps ``keep_ratio`` of every layer; ``equal_remaining`` keeps 1 / (tasks still
    expected); ``per_layer`` looks layers up in ``keep_table`` and falls back on ``keep_ratio``.
    inherit: what a new task's scores are of those that the bank's last task left: 1 keeps them, which makes masks
    alike; a tenth keeps their order and lets them turn, where tasks need other weights.
    ramp: share of the steps over which the keep ratio falls from 1 (cubic); 0 is off.
    threads: of torch on the CPU; 0 leaves torch's choice. The sums of two thread counts are rounded differently, so
    a fixed number gives the same bytes on any number of cores, and small networks are fastest with 1.
    precision: of the products in training steps; ``bfloat16`` is for GPUs that are faster at it. Sums, rounding, batch
    norm's statistics, weights and evaluation stay as they are, and so do the integers of what is committed.
    mirror, shift: every step sees its images mirrored left to right (half of them) and moved by up to ``shift`` pixels
    in both directions; for photographs, not for permuted pixels.
    transfer: also learn every task alone, to measure forward transfer (doubles the time).
    schedule: ``plateau`` multiplies the learning rate by ``decay`` after ``patience`` epochs without a better
    validation loss and stops below ``lr_floor``; ``cosine`` decays over ``epochs``.
    """

    method: Literal["tsn", "wsn", "packnet", "ada_qpacknet", "finetune"] = "tsn"
    epochs: int = 40
    batch: int = 64
    lr: float = 4e-3
    schedule: Literal["plateau", "cosine"] = "cosine"
    patience: int = 6
    decay: float = 0.5
    lr_floor: float = 1e-5
    keep_policy: Literal["constant", "equal_remaining", "per_layer"] = "constant"
    keep_ratio: float = 0.2
    keep_table: dict[str, float] = field(default_factory=dict)
    inherit: float = 1.0
    ramp: float = 0.0
    threads: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    mirror: bool = False
    shift: int = 0
    transfer: bool = False

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
    """Post-pruning: ``iterations`` greedy steps, each on a ``share`` of a layer's weights.

    ``tolerated_drop`` is in percentage points of validation accuracy, for all steps together.
    by: ``own`` removes own weights, the smallest first; ``coded_size`` removes shared ones from the mask too, and
    only where masks and codes shrink by it.
    """

    iterations: int = 20
    share: float = 0.2
    tolerated_drop: float = 0.2
    by: Literal["own", "coded_size"] = "own"

    def __post_init__(self) -> None:
        _require(self.iterations >= 0, "prune.iterations", self.iterations, "at least 0")
        _require(0 < self.share <= 1, "prune.share", self.share, "above 0, at most 1")
        _require(self.tolerated_drop >= 0, "prune.tolerated_drop", self.tolerated_drop, "at least 0")


@dataclass(frozen=True)
class QuantizeSettings:
    """Adaptive bit-width: the smallest code width within ``tolerated_drop`` points.

    per_layer:  afterwards try one bit less, layer by layer.
    share_codebooks: afterwards put a layer on the nearest codebook of an earlier task of the bank, where that is no
                wider and accuracy stays within ``tolerated_drop``.
    qat_bits:   at this width or below, train on with the codebook in the loop (``qat_epochs``), because
                codebooks of 1 and 2 bits lose accuracy when they are only fitted afterwards.
    head_bits:  code width of the heads.
    probe_bits: also tell test accuracy with the codebooks of these widths as they are fitted after training.
    """

    min_bits: int = 2
    max_bits: int = 8
    tolerated_drop: float = 0.5
    per_layer: bool = False
    share_codebooks: bool = False
    qat_bits: int = 2
    qat_epochs: int = 10
    head_bits: int = 5
    probe_bits: tuple[int, ...] = ()

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


@dataclass(frozen=True)
class RouteSettings:
    """KL routing into banks.

    estimator: ``gaussian`` compares mean and variance of probe activations; ``histogram`` their histograms;
    ``softmax_pairs`` raw images sample by sample, as the paper's later code does.
    memory: what a task leaves behind for later ones: ``stats`` (two numbers a unit), ``samples_act`` or
    ``samples_input`` (``samples`` of them, ``bits`` each).
    threshold: 0 calibrates it on two disjoint halves of the first task (``factor`` times their score, at
    least ``floor``).
    """

    enabled: bool = False
    estimator: Literal["gaussian", "histogram", "softmax_pairs"] = "gaussian"
    memory: Literal["stats", "samples_act", "samples_input"] = "stats"
    samples: int = 100
    bits: int = 8
    threshold: float = 0.0
    factor: float = 3.0
    floor: float = 0.05
    max_banks: int = 8

    def __post_init__(self) -> None:
        _require(self.samples >= 2, "route.samples", self.samples, "at least 2")
        _require(self.bits in (4, 8, 16), "route.bits", self.bits, "4, 8 or 16")
        for name in ("threshold", "factor", "floor"):
            _require(getattr(self, name) >= 0, f"route.{name}", getattr(self, name), "at least 0")
        _require(self.max_banks >= 1, "route.max_banks", self.max_banks, "at least 1")
        needs = {
            "gaussian": ("stats", "samples_act", "samples_input"),
            "histogram": ("samples_act", "samples_input"),
            "softmax_pairs": ("samples_input",),
        }[self.estimator]
        _require(self.memory in needs, "route.memory", self.memory, f"one of {needs} for estimator {self.estimator!r}")


@dataclass(frozen=True)
class Settings:
    """One training run. ``data`` lists one data set, or one a task for a mixed stream."""

    data: tuple[DataSettings, ...] = (DataSettings(),)
    stream: StreamSettings = StreamSettings()
    model: ModelSettings = ModelSettings()
    formats: Formats = Formats()
    train: TrainSettings = TrainSettings()
    prune: PruneSettings = PruneSettings()
    quantize: QuantizeSettings = QuantizeSettings()
    route: RouteSettings = RouteSettings()
    seed: int = 0
