"""The settings of stage I."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from emomc.common.errors import UserError
from emomc.compression.channel_options import ImportanceName
from emomc.compression.criteria import CriterionName, PruningCost
from emomc.compression.levels import UNSTRUCTURED, Level, LevelName, check_pattern, n_m_percent
from emomc.runtime.recipe import OptimizerName, Recipe, ScheduleName

_MOST_EPOCHS = 1_000_000
_LARGEST_RATE = 1000
_MOST_IMAGES = 1 << 20
_LARGEST_SEED = (1 << 63) - 1


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """How a network is trained and how its library of pruned levels is made.

    Raises:
        UserError: a number is out of its range.
    """

    network: str = "lenet5"
    """lenet5, mobilenet, vgg16, resnet18, ``timm:NAME``, or your own as ``path/to/file.py:Class`` or
    ``package.module:Class``."""
    network_args: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the network's constructor."""
    weights: str | None = None
    """File of trained weights (safetensors, .pt or .ckpt). If all of them fit, they are the dense network; what does
    not fit is named and trained."""
    weights_strict: bool = False
    """Refuse weights that do not fit in every name and shape."""
    network_output: str | None = None
    """Key or index of the class scores, if the network has several outputs; else the first."""
    exclude_layers: list[str] = dataclasses.field(default_factory=list)
    """Patterns such as ``head.*`` of layer names that stay uncompressed."""
    pre_train_epochs: int = 30
    """Epochs of training the dense network, from scratch or from weights that do not fit in everything."""
    learning_rate: float = 0.005
    """Largest learning rate of that training."""
    optimizer: OptimizerName = "adamw"
    """adamw, adam, or sgd with Nesterov momentum."""
    weight_decay: float = 0.01
    """Weight decay; biases and norms are not decayed."""
    schedule: ScheduleName = "one_cycle"
    """Learning rate within a run: one cycle, cosine decay, or halving every 30 epochs."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, 0..1."""
    pattern: list[str] = dataclasses.field(default_factory=lambda: [UNSTRUCTURED])
    """Patterns of the zeros: unstructured, N:M such as 2:4, block:RxC such as block:4x1 (output channels x inputs),
    channel. Each has levels of its own: N:M one, the others those of the bounds. docs/patterns.md."""
    channel_importance: ImportanceName = "magnitude"
    """Which channels remain: those of the largest weights (magnitude), of the largest scales of their BatchNorms
    (batchnorm), or whose removal would change the loss most, to first order (taylor)."""
    channel_multiple: int = 8
    """Channels that remain of a layer are all of them or a multiple of this, a count of 1..1024."""
    pre_prune_upper_bound: int = 80
    """Highest level, percent of weights remaining."""
    pre_prune_lower_bound: int = 20
    """Lowest level, percent of weights remaining."""
    pre_prune_step: int = 5
    """Distance between levels, percent of weights."""
    pre_prune_ratio: float | None = None
    """Weights of a level over those of the level above, 0..1, instead of a step: levels get closer towards the lower
    bound."""
    pre_prune_epochs: int = 2
    """Epochs of fine-tuning per level."""
    robust: bool = False
    """Fine-tune each level for few bits too: every batch also runs with a random number of bits, 2 to 8, in each layer,
    and the dense network's answers teach both. An epoch takes about 2.5 times as long."""
    distillation: float = 0.5
    """Share of the loss of robust levels that is the divergence from the dense network's answers, 0..1."""
    pre_prune_learning_rate: float | None = None
    """Largest learning rate of each level's fine-tuning; without it, that of the dense network's training times 0.4."""
    pre_prune_schedule: Literal["chain", "restart"] = "chain"
    """chain: each level starts from the one above. restart: each starts from the dense network and is pruned in equal
    ratios, one step an epoch, as the paper's reference does."""
    criterion: CriterionName = "layerwise"
    """Which weights remain: the same fraction of each layer (layerwise); the largest of all layers by magnitude
    (global), LAMP score (lamp) or energy (macs); or in each layer as many as its measured sensitivity and its cost ask
    for (sensitivity), which reaches farthest: docs/results/reach.md. The others: docs/results/pre_pruning.md."""
    pruning_cost: PruningCost = "both"
    """What the criterion sensitivity saves, and what its levels are percent of: weights (for size), macs (for energy),
    or the mean of both."""
    evaluation_batch_size: int = 250
    """Images per batch of every later evaluation; results are bit-identical for one batch size only."""
    keep_front: bool = False
    """Keep Lightning's checkpoints of those epochs, over all levels, that are on the front of accuracy and density."""
    channels_last: bool = True
    """Train in channels-last memory format."""
    seed: int = 0
    """Seed of all randomness, 0 or more."""

    def __post_init__(self) -> None:
        for name in ("pre_train_epochs", "pre_prune_epochs"):
            _require(0 <= getattr(self, name) <= _MOST_EPOCHS, f"{name} of 0..{_MOST_EPOCHS}", getattr(self, name))
        _require(
            self.weights is not None or self.pre_train_epochs >= 1,
            "pre_train_epochs of at least 1, or --weights",
            self.pre_train_epochs,
        )
        for pattern in self.pattern:
            check_pattern(pattern)
        _require(1 <= self.channel_multiple <= 1024, "a channel_multiple of 1..1024", self.channel_multiple)
        _require(bool(self.pattern), f"one pattern or more, such as {UNSTRUCTURED}", "none")
        _require(len(set(self.pattern)) == len(self.pattern), "patterns that differ", " ".join(self.pattern))
        _require(
            1 <= self.pre_prune_lower_bound <= self.pre_prune_upper_bound <= 100,
            "1 <= pre_prune_lower_bound <= pre_prune_upper_bound <= 100 (percent of weights remaining)",
            f"{self.pre_prune_lower_bound} and {self.pre_prune_upper_bound}",
        )
        _require(self.pre_prune_step >= 1, "a pre_prune_step of at least 1 percent", self.pre_prune_step)
        ratio = self.pre_prune_ratio
        _require(ratio is None or 0 < ratio < 1, "a pre_prune_ratio above 0 and below 1", ratio)
        _require(
            ratio is None or self.pre_prune_step == PretrainingConfig.pre_prune_step,
            "pre_prune_step or pre_prune_ratio (null: none), not both",
            f"{self.pre_prune_step} and {ratio}",
        )
        _require(0 <= self.distillation <= 1, "a distillation of 0..1", self.distillation)
        for name in ("learning_rate", "pre_prune_learning_rate"):
            value = getattr(self, name)
            _require(value is None or 0 < value <= _LARGEST_RATE, f"a {name} above 0 and up to {_LARGEST_RATE}", value)
        _require(0 <= self.weight_decay <= _LARGEST_RATE, f"a weight_decay of 0..{_LARGEST_RATE}", self.weight_decay)
        _require(0 <= self.label_smoothing <= 1, "a label_smoothing of 0..1", self.label_smoothing)
        size = self.evaluation_batch_size
        _require(1 <= size <= _MOST_IMAGES, f"an evaluation_batch_size of 1..{_MOST_IMAGES}", size)
        _require(0 <= self.seed <= _LARGEST_SEED, f"a seed of 0..{_LARGEST_SEED}", self.seed)

    @property
    def levels(self) -> tuple[LevelName, ...]:
        """The levels below the dense network in the order in which they are made: chain by chain, each descending."""
        fixed = {pattern: n_m_percent(pattern) for pattern in self.pattern}
        levels = [
            Level(percent, pattern)
            for pattern, only in fixed.items()
            for percent in (self._percents if only is None else (only,))
        ]
        chains = list(dict.fromkeys(level.chain for level in levels))
        return tuple(
            level.name for level in sorted(levels, key=lambda level: (chains.index(level.chain), -level.percent))
        )

    @property
    def _percents(self) -> tuple[int, ...]:
        """The levels of one pattern below the dense network, percent of weights remaining, descending."""
        highest, lowest, ratio = self.pre_prune_upper_bound, self.pre_prune_lower_bound, self.pre_prune_ratio
        levels = list(range(highest, lowest - 1, -self.pre_prune_step)) if ratio is None else [highest]
        while ratio is not None and levels[-1] > lowest:
            # At least a step of 1 percent, so that it ends.
            levels.append(max(lowest, min(levels[-1] - 1, round(levels[-1] * ratio))))
        return tuple(level for level in levels if level < 100)

    @property
    def training_recipe(self) -> Recipe:
        """How the dense network is trained."""
        return self._recipe(self.learning_rate, warmup=0.3)

    @property
    def fine_tuning_recipe(self) -> Recipe:
        """How a level is fine-tuned: with a large learning rate and a short warm-up.

        Source: learning-rate rewinding, arXiv 2003.02389; one cycle per level, arXiv 2111.00843.
        """
        return self._recipe(self.pre_prune_learning_rate or 0.4 * self.learning_rate, warmup=0.1)

    def _recipe(self, learning_rate: float, warmup: float) -> Recipe:
        return Recipe(
            learning_rate,
            self.optimizer,
            self.weight_decay,
            self.schedule,
            self.label_smoothing,
            self.channels_last,
            warmup,
        )


def _require(condition: bool, expected: str, found: object) -> None:
    if not condition:
        raise UserError(f"expected {expected}, found {found}")
