"""Description of an accelerator: what one operation and one memory access cost, read from a YAML file."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emomc.common.errors import UserError
from emomc.common.fields import (
    FieldError,
    Problems,
    build,
    check_choice,
    check_count,
    check_number,
    check_positive,
    check_text,
    fail,
    is_count,
    require_mapping,
    show,
)
from emomc.common.yaml_files import parse_yaml, read_yaml
from emomc.hardware.accelergy import with_energies
from emomc.hardware.mac_energy import Mac, build_mac
from emomc.hardware.measured_hardware import TABLE, MeasuredHardware, hardware_of_table, measured_hardware, table_path
from emomc.hardware.precision import Precision
from emomc.hardware.step_cycles import Array, CyclesByBits
from emomc.hardware.zero_skipping import NONE, SKIPS_WEIGHTS, ZeroSkipping

FORMAT_VERSION = 1
OPERANDS = ("I", "W", "O")
ENERGY_UNITS = ("pJ", "mac16", "none")
COUNTS = ("paper", "reuse")


@dataclasses.dataclass(frozen=True)
class OperationalArray:
    """The processing elements (PEs)."""

    sizes: tuple[int, int] | None
    """PEs along the first and the second dimension that the dataflow unrolls; None: as many as the layer can use."""
    mac: Mac | None
    """Energy of one multiply-accumulate; None where energies are not known."""
    cycles_per_step: float = 1.0
    """Cycles in which every PE makes one multiply-accumulate; below 1 for a PE that makes several at once."""
    cycles_by_bits: CyclesByBits | None = None
    """The same where it depends on the bits of inputs and weights, in place of ``cycles_per_step``."""

    def step_cycles(self, bits: Array, input_bits: Array | float) -> Array | float:
        """Return the cycles of one step, of a shape that broadcasts to that of the bits."""
        return self.cycles_per_step if self.cycles_by_bits is None else self.cycles_by_bits.cycles(bits, input_bits)

    def __post_init__(self) -> None:
        problems = Problems()
        problems.of(check_positive, self, "cycles_per_step")
        problems.of(self._check_sizes)
        if self.cycles_by_bits is not None and self.cycles_per_step != 1:
            problems.of(fail, "cycles_per_step", f"expected none with cycles_by_bits, found {self.cycles_per_step}")
        problems.end()

    def _check_sizes(self) -> None:
        if self.sizes is None:
            return
        if not isinstance(self.sizes, (tuple, list)) or len(self.sizes) != 2:
            raise FieldError("sizes", f"expected null or two numbers of PEs such as [16, 16], found {show(self.sizes)}")
        for index, size in enumerate(self.sizes):
            if not is_count(size):
                raise FieldError(f"sizes[{index}]", f"expected a number of PEs (integer >= 1), found {show(size)}")


@dataclasses.dataclass(frozen=True)
class Memory:
    """One level of the memory hierarchy. Energies are per access of one word; a part of a word costs its fraction."""

    name: str
    operands: tuple[str, ...]
    """What the memory holds: I (input map), W (weights), O (outputs and partial sums)."""
    word_bits: int
    """Bits of one access."""
    r_cost: float | None = None
    """Energy of reading one word, pJ or relative units; None where energies are not known."""
    w_cost: float | None = None
    """Energy of writing one word, likewise."""
    per_pe: bool = False
    """Whether each PE has its own (register, scratchpad); otherwise all PEs share it."""
    extra_weight_bits: int = 0
    """Bits moved with each weight besides its own, such as a zero flag. Shared memories under ``reuse`` counts ignore
    them where the bits of the coded weights are given."""
    size_bits: int | None = None
    """Capacity, bits (per PE if ``per_pe``); None: unlimited."""
    bw_bits_per_cycle: float | None = None
    """Most bits moved per cycle (per PE if ``per_pe``); None: unlimited."""
    coded_weights: bool | None = None
    """Whether weights lie in their coding here, for a decoder between this memory and the next inner one; None: where
    the array makes use of zero weights."""

    def __post_init__(self) -> None:
        problems = Problems()
        problems.of(check_text, self, "name")
        problems.of(self._check_operands)
        problems.of(check_count, self, "word_bits")
        for name in ("r_cost", "w_cost"):
            if getattr(self, name) is not None:
                problems.of(check_number, self, name)
        for name in ("per_pe", "coded_weights"):
            problems.of(self._check_flag, name, optional=name == "coded_weights")
        if not is_count(self.extra_weight_bits) and self.extra_weight_bits != 0:
            problems.of(fail, "extra_weight_bits", f"expected an integer >= 0, found {show(self.extra_weight_bits)}")
        if self.size_bits is not None:
            problems.of(check_count, self, "size_bits")
        if self.bw_bits_per_cycle is not None:
            problems.of(check_positive, self, "bw_bits_per_cycle")
        problems.end()

    def _check_operands(self) -> None:
        known = isinstance(self.operands, (tuple, list)) and all(operand in OPERANDS for operand in self.operands)
        if not known or not self.operands or len(set(self.operands)) != len(self.operands):
            raise FieldError("operands", f"expected one or more of I, W, O, each once, found {show(self.operands)}")

    def _check_flag(self, name: str, *, optional: bool) -> None:
        value = getattr(self, name)
        if not isinstance(value, bool) and not (optional and value is None):
            raise FieldError(name, f"expected true or false, found {show(value)}")


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Description of an accelerator for the cost model."""

    name: str
    technology: str
    energy_unit: str
    """pJ; mac16: relative to one 16-bit multiply-accumulate, without absolute energies; none: only cycles are known."""
    counts: str
    """How accesses are counted: ``paper`` (the published formulas) or ``reuse`` (finite arrays, halo, DRAM)."""
    precision: Precision
    operational_array: OperationalArray
    memories: tuple[Memory, ...]
    """Innermost first."""
    zero_skipping: ZeroSkipping = SKIPS_WEIGHTS
    """What the array does with zeros."""
    energy_per_cycle: float = 0.0
    """Energy of all that runs whether it computes or not, per cycle, pJ or relative units."""
    clock_mhz: float | None = None
    """Clock, MHz; None: latency is only given in cycles."""
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    """Where the numbers come from."""
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        problems = Problems()
        problems.of(self._check_version)
        for name in ("name", "technology"):
            problems.of(check_text, self, name)
        problems.of(check_choice, self, "energy_unit", ENERGY_UNITS)
        if self.counts not in COUNTS:
            problems.of(fail, "counts", f"expected one of {', '.join((*COUNTS, TABLE))}, found {show(self.counts)}")
        problems.of(check_number, self, "energy_per_cycle")
        if self.clock_mhz is not None:
            problems.of(check_positive, self, "clock_mhz")
        self._check_sources(problems)
        self._check_memories(problems)
        self._check_energies(problems)
        if self.counts == "paper":
            self._check_paper(problems)
        problems.end()

    def _check_version(self) -> None:
        if self.version != FORMAT_VERSION or isinstance(self.version, bool):
            raise FieldError("version", f"expected {FORMAT_VERSION}, found {show(self.version)}")

    def _check_sources(self, problems: Problems) -> None:
        if not isinstance(self.sources, Mapping):
            problems.of(fail, "sources", f"expected a text for mac and one for memories, found {show(self.sources)}")
            return
        for key in ("mac", "memories"):
            if key not in self.sources:
                problems.of(fail, f"sources.{key}", "expected the source of the numbers, found nothing")
        for key, text in self.sources.items():
            if not isinstance(text, str) or not text.strip():
                problems.of(fail, f"sources.{key}", f"expected a text, found {show(text)}")

    def _check_memories(self, problems: Problems) -> None:
        if not self.memories:
            problems.of(fail, "memories", "expected at least one memory, found none")
        names = [memory.name for memory in self.memories]
        for index, memory in enumerate(self.memories):
            path = f"memories[{index}]"
            if memory.name in names[:index]:
                problems.of(fail, f"{path}.name", f"expected a unique name, found {memory.name!r} twice")
            if memory.per_pe and index and not self.memories[index - 1].per_pe:
                found = "expected per-PE memories before shared ones, found a shared one first"
                problems.of(fail, f"{path}.per_pe", found)
        for operand in OPERANDS:
            if sum(memory.per_pe and operand in memory.operands for memory in self.memories) > 1:
                problems.of(fail, "memories", f"expected at most one per-PE memory for {operand}, found several")
            if self.memories and not any(operand in one.operands for one in self.memories if not one.per_pe):
                problems.of(fail, "memories", f"expected a shared memory that holds {operand}, found none")

    def _check_energies(self, problems: Problems) -> None:
        """Energies are all there, or none is."""
        energies: dict[str, object] = {"operational_array.mac": self.operational_array.mac}
        for index, memory in enumerate(self.memories):
            energies |= {f"memories[{index}].{name}": getattr(memory, name) for name in ("r_cost", "w_cost")}
        for path, energy in energies.items():
            if self.has_energy and energy is None:
                problems.of(fail, path, "expected a value, found nothing")
            if not self.has_energy and energy is not None:
                problems.of(fail, path, f"expected nothing with energy_unit: none, found {show(energy)}")

    def _check_paper(self, problems: Problems) -> None:
        array = self.operational_array
        if array.sizes is not None:
            expected = "expected null (the paper's counts have no array sizes)"
            problems.of(fail, "operational_array.sizes", f"{expected}, found {show(array.sizes)}")
        if len(self.memories) != 1:
            problems.of(fail, "memories", f"expected one memory with counts: paper, found {len(self.memories)}")
        if self.zero_skipping != SKIPS_WEIGHTS:
            problems.of(fail, "zero_skipping", "expected W: skipped and I: none with counts: paper, found others")

    @property
    def energy_label(self) -> str:
        """Unit of the energies that the cost model returns: mJ, or 16-bit MACs; empty where none are known."""
        return {"pJ": "mJ", "mac16": "16-bit MACs", "none": ""}[self.energy_unit]

    @property
    def energy_scale(self) -> float:
        """Factor from this description's unit to that of ``energy_label``."""
        return 1e-9 if self.energy_unit == "pJ" else 1.0

    @property
    def has_joules(self) -> bool:
        """Whether energies are absolute."""
        return self.energy_unit == "pJ"

    @property
    def has_energy(self) -> bool:
        """Whether energies are known, absolute or relative."""
        return self.energy_unit != "none"

    @property
    def has_milliseconds(self) -> bool:
        """Whether times are known in milliseconds, and not in cycles alone."""
        return self.clock_mhz is not None

    def first_shared(self, operand: str) -> Memory:
        """Return the innermost memory that all PEs share and that holds an operand."""
        return next(memory for memory in self.memories if not memory.per_pe and operand in memory.operands)

    def register(self, operand: str) -> Memory | None:
        """Return the per-PE memory that holds an operand; None if there is none."""
        return next((memory for memory in self.memories if memory.per_pe and operand in memory.operands), None)

    def holds_codes(self, memory: Memory) -> bool:
        """Return whether weights lie in their coding in a memory."""
        coded = memory.coded_weights
        return self.zero_skipping.W != NONE if coded is None else coded

    @property
    def off_chip(self) -> Memory | None:
        """The outermost memory, treated as DRAM, if an inner shared memory holds one of its operands; else None."""
        *inner, last = [memory for memory in self.memories if not memory.per_pe]
        return last if any(set(memory.operands) & set(last.operands) for memory in inner) else None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a hardware file: the description under the key ``hardware``."""
        values = dataclasses.asdict(self)
        array = self.operational_array
        sizes = None if array.sizes is None else list(array.sizes)
        values["operational_array"] = {
            "sizes": sizes,
            "mac": None if array.mac is None else {"model": array.mac.model, **dataclasses.asdict(array.mac)},
            "cycles_per_step": array.cycles_per_step,
            **({} if array.cycles_by_bits is None else {"cycles_by_bits": dict(array.cycles_by_bits.table)}),
        }
        values["memories"] = [{**memory, "operands": list(memory["operands"])} for memory in values["memories"]]
        return {"hardware": values}

    @classmethod
    def from_dict(cls, document: Any) -> Hardware:
        """Build the hardware from the content of a hardware file.

        Raises:
            FieldError: the content is not a valid description; the message starts with the path of the wrong value.
        """
        values = require_mapping(_only(document, "hardware"))
        return build(
            cls,
            values,
            precision=lambda value: build(Precision, value),
            operational_array=_build_array,
            memories=_build_memories,
            zero_skipping=lambda value: build(ZeroSkipping, value),
        )


Target = Hardware | MeasuredHardware
"""What networks run on: an accelerator that is described, or a device that was measured."""


def preset_names() -> list[str]:
    """Return the names of the shipped hardware descriptions."""
    folder = importlib.resources.files("emomc.configs.hardware")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_hardware(name_or_path: str | Path) -> Hardware:
    """Read the description of an accelerator; arguments and errors as those of ``load_target``."""
    found = load_target(name_or_path)
    if isinstance(found, MeasuredHardware):
        raise UserError(f"expected hardware with counts of {' or '.join(COUNTS)}, found the table {found.table.file}")
    return found


def load_target(name_or_path: str | Path) -> Target:
    """Read what networks are to run on.

    Args:
        name_or_path: the name of a shipped description (see ``preset_names``), the path of a YAML file, or
            ``table:FILE.csv`` for a table of measurements.

    Raises:
        UserError: there is no such description, or it is not valid; the message names the file and every wrong value.
    """
    name, folder = str(name_or_path), Path()
    if (path := table_path(name)) is not None:
        return hardware_of_table(path)
    if name in preset_names():
        text = importlib.resources.files("emomc.configs.hardware").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        content = parse_yaml(text)
    else:
        path = Path(name_or_path)
        if not path.is_file():
            presets = ", ".join(preset_names())
            raise UserError(
                f"expected a hardware file, table:FILE.csv or one of {presets}, found none of them under {name!r}"
            )
        content, folder = read_yaml(path, "a hardware file"), path.parent
    try:
        values = _only(content, "hardware")
        if isinstance(values, Mapping) and values.get("counts") == TABLE:
            return measured_hardware(values, folder)
        return Hardware.from_dict({"hardware": with_energies(values, folder)})
    except FieldError as error:
        count = f" ({len(error.every)} wrong entries)" if error.others else ""
        raise UserError(f"{name}: {'; '.join(map(str, error.every))}{count}") from None


def _build_array(values: Any) -> OperationalArray:
    return build(OperationalArray, values, mac=build_mac, cycles_by_bits=lambda value: value and CyclesByBits(value))


def _build_memories(values: Any) -> tuple[Memory, ...]:
    if not isinstance(values, list):
        raise FieldError("", f"expected a list of memories, innermost first, found {show(values)}")
    problems = Problems()
    memories = [problems.of(build, Memory, value, inside=f"[{index}]") for index, value in enumerate(values)]
    problems.end()
    return tuple(memories)  # type: ignore[arg-type]


def _only(document: Any, key: str) -> Any:
    if not isinstance(document, Mapping) or list(document) != [key]:
        found = f"the keys {', '.join(map(str, document))}" if isinstance(document, Mapping) else show(document)
        raise FieldError(key, f"expected this key alone at the top level of the file, found {found}")
    return document[key]
