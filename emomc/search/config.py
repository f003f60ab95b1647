"""The settings of a search."""

from __future__ import annotations

import dataclasses
from typing import Literal

from emomc.candidates.objectives import ACCURACY, COST_OBJECTIVES, ObjectiveName
from emomc.common.errors import UserError
from emomc.compression.codings import PAPER_CODINGS, CodingName
from emomc.compression.levels import check_pattern
from emomc.compression.quantizers import Quantizer, QuantizerName, RoundingName, ScaleName
from emomc.compression.widths import FULL_ACTIVATION_BITS, MAX_BITS, MIN_ACTIVATION_BITS, MIN_BITS
from emomc.hardware.dataflows import DataflowName
from emomc.hardware.description import Target

_MOST_EPOCHS = 1_000_000

Accounting = Literal["exact", "paper"]
AlgorithmName = Literal["nsga2", "nsga3", "sms-emoa", "age-moea2"]
RAM = "ram"
"""Name of the cost that can be bounded, but is no objective: candidates hardly differ in it."""
CompileMode = Literal["auto", "always", "never"]
VariationName = Literal["integer", "real"]


@dataclasses.dataclass(frozen=True)
class EvolutionSettings:
    """How a population evolves."""

    algorithm: AlgorithmName = "nsga2"
    variation: VariationName = "integer"
    """``integer``: uniform crossover and mutation by whole steps; with a forecast, many offspring, of which the most
    promising are evaluated. ``real``, as in the paper's reference code: SBX with
    probability 0.9 and eta 15, and polynomial mutation with eta 20, on real genes that are rounded when decoded."""
    offspring: int = 20
    """New candidates per generation; twice as many survive."""
    generations: int = 120
    seed: int = 0

    @property
    def survivors(self) -> int:
        """Size of the population: of the first one, and after each generation."""
        return 2 * self.offspring


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """The settings that decide the front: two searches of one library with equal settings give equal fronts.

    Raises:
        UserError: a number is out of its range, or the settings do not fit together.
    """

    objectives: tuple[ObjectiveName, ...] = ("accuracy", "energy")
    """Objectives of the search: accuracy, and one or more of energy, size and latency."""
    dataflow: DataflowName = "xy"
    """The two loops that the accelerator unrolls: X|Y, IC|OC, Fx|Fy or X|Fx; best: the cheapest for each candidate."""
    coding: CodingName = "normal"
    """How the weights are stored. best: the shortest for each layer. bitmap, huffman and best need exact accounting."""
    accounting: Accounting = "exact"
    """exact: nonzero weights after quantization, and the bytes of the exported file. paper: the paper's formulas."""
    hardware: str = "emomc_fpga"
    """Name of a shipped accelerator, a YAML file that describes one, or table:FILE.csv with what was measured."""
    population_size: int = 20
    """New candidates per generation; twice as many survive."""
    number_generations: int = 120
    """Number of generations; the first population is generation 1."""
    algorithm: AlgorithmName = "nsga2"
    """nsga2, nsga3, sms-emoa or age-moea2; early rejection works with nsga2."""
    variation: VariationName = "integer"
    """integer: genes move by whole steps; those candidates are evaluated that promise most by each layer's quantization
    noise and by what was evaluated before. real: random first population and real-coded operators, as in the paper's
    reference code."""
    patience: int | None = None
    """Stop after this many generations in which the hypervolume did not grow; none: run all generations."""
    size_constraint: str | None = None
    """Upper bound on the size: KiB, or a percentage of the uncompressed network, such as 25%."""
    energy_constraint: str | None = None
    """Upper bound on the energy of one image: mJ, or a percentage of the uncompressed network, such as 25%."""
    latency_constraint: str | None = None
    """Upper bound on the time of one image: ms (cycles if the hardware has no clock), or a percentage, as above."""
    ram_constraint: str | None = None
    """Upper bound on the RAM of the network as a program in C: KiB, or a percentage of the uncompressed network."""
    pattern: list[str] | None = None
    """Patterns of zeros to search, of those in the library, such as 2:4 or channel; none: all."""
    lowest_level: int = 1
    """Lowest level to search, percent of weights remaining."""
    highest_level: int = 100
    """Highest level to search, percent of weights remaining."""
    min_bits: int = MIN_BITS
    """Fewest bits of a weight, 2..12."""
    max_bits: int = MAX_BITS
    """Most bits of a weight, 2..12."""
    quantizer: QuantizerName = "mse"
    """How a layer's quantization step is chosen. mse: least squared error. absmax: from the largest weight; more
    weights become zero, which costs less with exact accounting. docs/results/quantizers.md."""
    per_channel: bool = True
    """One quantization step per output channel instead of one per layer."""
    bias_correction: bool = True
    """Subtract from each bias the mean error that the quantized weights cause on training images."""
    rounding: RoundingName = "learned"
    """learned: weights of up to 6 bits get the codes and steps that change the outputs of their layer least on training
    images, and a nonzero code must be worth what it costs. nearest: the nearest code. docs/quantization.md."""
    scales: ScaleName = "float16"
    """Numbers of the scales and biases of quantized layers: float16 takes half the bytes of float32."""
    activation_bits: int | tuple[int, ...] = FULL_ACTIVATION_BITS
    """Bits of the layers' inputs, 2..16. Below 16, evaluation rounds the inputs within ranges calibrated on training
    images, and the cost model counts these bits; at 16 nothing is rounded and the hardware's precision is counted.
    Several, such as 4 6 8: the bits of each layer's inputs are searched among them."""
    precision: str = "32-true"
    """Arithmetic of the evaluation, as Lightning names it."""
    compile: CompileMode = "auto"
    """Run whole batches through a compiled graph, which is faster; a CPU needs a C++ compiler. auto: on a CPU, if the
    search is long enough. Compiled or not, a score may round differently. docs/determinism.md."""
    seed: int = 0
    """Seed of the evolution, 0 or more."""

    def __post_init__(self) -> None:
        for name, least, most in (("population_size", 2, 5_000), ("number_generations", 1, 10_000_000)):
            value = getattr(self, name)
            _require(value >= least, f"{name} of at least {least}", value)
            _require(value <= most, f"{name} of at most {most}", value)
        _require(self.patience is None or self.patience >= 1, "a patience of at least 1", self.patience)
        _require(0 <= self.seed < 1 << 63, "a seed of 0..2^63 - 1", self.seed)
        for pattern in self.pattern or ():
            check_pattern(pattern)
        _require(
            1 <= self.lowest_level <= self.highest_level <= 100,
            "1 <= lowest_level <= highest_level <= 100 (percent of weights remaining)",
            f"{self.lowest_level} and {self.highest_level}",
        )
        _require(
            MIN_BITS <= self.min_bits <= self.max_bits <= MAX_BITS,
            f"{MIN_BITS} <= min_bits <= max_bits <= {MAX_BITS}",
            f"{self.min_bits} and {self.max_bits}",
        )
        self._check_activation_bits()
        names = self.objectives
        _require(
            len(names) >= 2 and names[0] == ACCURACY and len(set(names)) == len(names),
            f"objectives of {ACCURACY} and one or more of {', '.join(COST_OBJECTIVES)}",
            " ".join(names) or "none",
        )
        if self.accounting == "paper":
            _require(
                self.coding in PAPER_CODINGS,
                f"a coding of {', '.join(PAPER_CODINGS)} with paper accounting",
                repr(self.coding),
            )
        for cost, bound in self.constraints.items():
            _require(cost not in names, f"no {cost}_constraint, as {cost} is an objective", bound)
            resolve_bound(bound, 1.0)
        _require(
            not self.layer_activation_bits or bool({"energy", "latency"} & {*names, *self.constraints}),
            "energy or latency among the objectives or constraints with several activation_bits, which the size does "
            "not depend on",
            " ".join(names),
        )

    def _check_activation_bits(self) -> None:
        """Check the bits of inputs, and bring them into order; several with one value are this value."""
        given = self.activation_bits
        bits = given if isinstance(given, tuple) else (given,)
        expected = f"activation_bits of {MIN_ACTIVATION_BITS}..{FULL_ACTIVATION_BITS}"
        _require(bool(bits), expected, "none")
        for one in bits:
            _require(MIN_ACTIVATION_BITS <= one <= FULL_ACTIVATION_BITS, expected, one)
        _require(len({*bits}) == len(bits), "activation_bits that differ", " ".join(map(str, bits)))
        object.__setattr__(self, "activation_bits", tuple(sorted(bits)) if len(bits) > 1 else bits[0])

    @property
    def layer_activation_bits(self) -> tuple[int, ...]:
        """Bits of inputs that are searched, ascending; empty: all layers have ``most_activation_bits``."""
        return self.activation_bits if isinstance(self.activation_bits, tuple) else ()

    @property
    def most_activation_bits(self) -> int:
        """The only or the most bits of inputs."""
        return self.activation_bits[-1] if isinstance(self.activation_bits, tuple) else self.activation_bits

    @property
    def constraints(self) -> dict[str, str]:
        """Name of each constrained cost -> its upper bound, as given."""
        bounds = {cost: getattr(self, f"{cost}_constraint") for cost in (*COST_OBJECTIVES, RAM)}
        return {cost: bound for cost, bound in bounds.items() if bound is not None}

    @property
    def quantization(self) -> Quantizer:
        """How weights and inputs are quantized, in evaluations and in the cost model."""
        most = self.most_activation_bits
        return Quantizer(
            self.quantizer,
            self.per_channel,
            self.bias_correction,
            most if most < FULL_ACTIVATION_BITS else None,
            self.rounding,
            scales=self.scales,
            layer_activation_bits=self.layer_activation_bits,
        )

    @property
    def most_candidates(self) -> int:
        """Candidates that a search asks for at most; a first population counts as two generations."""
        return self.population_size * (self.number_generations + 1)

    @property
    def evolution(self) -> EvolutionSettings:
        """How the population evolves."""
        return EvolutionSettings(
            self.algorithm, self.variation, self.population_size, self.number_generations, self.seed
        )


def check_known_costs(config: SearchConfig, hardware: Target) -> None:
    """Check that the costs that a search asks for are known of its hardware.

    Raises:
        UserError: energies are asked for, and none are known.
    """
    if hardware.has_energy:
        return
    asked = "objectives" if "energy" in config.objectives else "constraints" if "energy" in config.constraints else None
    if asked is not None:
        known = "accuracy, size and latency" if asked == "objectives" else "size, latency and RAM"
        raise UserError(f"expected {asked} among {known}, as no energies are known of {hardware.name}, found energy")


@dataclasses.dataclass(frozen=True)
class Finetuning:
    """How the points of a front are fine-tuned."""

    epochs: int
    """Passes over the training images, for each point."""
    learning_rate: float = 1e-3
    """Initial learning rate of AdamW; it decays to zero along a cosine."""
    distillation: float = 0.5
    """Share of the loss that is the divergence from the dense network's answers, 0..1."""
    budget: int | None = None
    """Epochs of all points together. The points are then chosen among all candidates by what fine-tuning is expected to
    gain, learned from those fine-tuned before; None: every point of the final front."""

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UserError: a number is out of its range.
        """
        if not 1 <= self.epochs <= _MOST_EPOCHS:
            raise UserError(
                f"expected at least 1 epoch of fine-tuning, and at most {_MOST_EPOCHS}, found {self.epochs}"
            )
        if not 0 < self.learning_rate < 1:
            raise UserError(f"expected a learning rate of fine-tuning in 0..1, found {self.learning_rate}")
        _require(0 <= self.distillation <= 1, "a distillation of 0..1", self.distillation)
        if self.budget is not None and not self.epochs <= self.budget <= _MOST_EPOCHS:
            raise UserError(
                f"expected a budget of fine-tuning of at least the {self.epochs} epochs of one point, and at most "
                f"{_MOST_EPOCHS}, found {self.budget}"
            )


def resolve_bound(bound: str, uncompressed: float) -> float:
    """Return an upper bound in the unit of ``uncompressed``.

    Args:
        bound: a number, or a percentage of ``uncompressed`` such as ``25%``.
        uncompressed: the uncompressed network's cost.

    Raises:
        UserError: ``bound`` is not a number above 0.
    """
    text = bound.strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UserError(f"expected a constraint above 0 such as 12.5 or 25%, found {bound!r}")
    return value / 100 * uncompressed if text.endswith("%") else value


def _require(condition: bool, expected: str, found: object) -> None:
    if not condition:
        raise UserError(f"expected {expected}, found {found}")
