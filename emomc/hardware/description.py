"""Description of an accelerator: what one operation and one memory access cost, read from a YAML file."""

from __future__ import annotations

import dataclasses
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from emomc.common.errors import UserError
from emomc.common.fields import (
    FieldError,
    build,
    check_choice,
    check_count,
    check_number,
    check_positive,
    check_text,
    is_count,
    require_mapping,
    require_number,
    show,
)
from emomc.common.yaml_files import parse_yaml, read_yaml

FORMAT_VERSION = 1
OPERANDS = ("I", "W", "O")
ENERGY_UNITS = ("pJ", "mac16")
COUNTS = ("paper", "reuse")


@dataclasses.dataclass(frozen=True)
class AffineMac:
    """MAC energy that is linear in the weight bits and does not depend on the activation bits."""

    model: ClassVar[str] = "affine"

    base: float
    """Energy at zero weight bits, pJ or relative units."""
    per_weight_bit: float
    """Energy that each weight bit adds."""

    def __post_init__(self) -> None:
        check_number(self, "base", "per_weight_bit")


@dataclasses.dataclass(frozen=True)
class BilinearMac:
    """MAC energy of an array multiplier, linear in weight bits x activation bits, and a fixed-width adder."""

    model: ClassVar[str] = "bilinear"

    per_bit2: float
    """Energy of the multiplier per weight bit and activation bit."""
    add: float
    """Energy of the addition."""

    def __post_init__(self) -> None:
        check_number(self, "per_bit2", "add")


@dataclasses.dataclass(frozen=True)
class TableMac:
    """MAC energy of multipliers of fixed widths.

    A weight uses the narrowest multiplier that is wide enough. A weight wider than all of them, or an activation wider
    than ``activation_bits``, is split into slices; each slice costs one operation.
    """

    model: ClassVar[str] = "table"

    activation_bits: int
    """Width of the multipliers' activation input, bits."""
    by_weight_bits: Mapping[int, float] = dataclasses.field(hash=False)
    """Weight bits of a multiplier -> energy of one operation."""

    def __post_init__(self) -> None:
        check_count(self, "activation_bits")
        if not isinstance(self.by_weight_bits, Mapping) or not self.by_weight_bits:
            raise FieldError("by_weight_bits", f"expected energies by weight bits, found {show(self.by_weight_bits)}")
        for bits, energy in self.by_weight_bits.items():
            if not is_count(bits):
                raise FieldError("by_weight_bits", f"expected weight bits (integers >= 1) as keys, found {show(bits)}")
            require_number(f"by_weight_bits.{bits}", energy)


Mac = AffineMac | BilinearMac | TableMac
_MAC_MODELS: Mapping[str, type[Mac]] = {kind.model: kind for kind in (AffineMac, BilinearMac, TableMac)}


@dataclasses.dataclass(frozen=True)
class OperationalArray:
    """The processing elements (PEs)."""

    sizes: tuple[int, int] | None
    """PEs along the first and the second dimension that the dataflow unrolls; None: as many as the layer can use."""
    mac: Mac
    """Energy of one multiply-accumulate."""

    def __post_init__(self) -> None:
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
    r_cost: float
    """Energy of reading one word, pJ or relative units."""
    w_cost: float
    """Energy of writing one word, pJ or relative units."""
    per_pe: bool = False
    """Whether each PE has its own (register, scratchpad); otherwise all PEs share it."""
    extra_weight_bits: int = 0
    """Bits moved with each weight besides its own, such as a zero flag. Shared memories under ``reuse`` counts ignore
    them where the bits of the coded weights are given."""
    size_bits: int | None = None
    """Capacity, bits (per PE if ``per_pe``); None: unknown. Only used to report how full the memory is."""
    bw_bits_per_cycle: float | None = None
    """Most bits moved per cycle (per PE if ``per_pe``); None: unlimited."""

    def __post_init__(self) -> None:
        check_text(self, "name")
        known = isinstance(self.operands, (tuple, list)) and all(operand in OPERANDS for operand in self.operands)
        if not known or not self.operands or len(set(self.operands)) != len(self.operands):
            raise FieldError("operands", f"expected one or more of I, W, O, each once, found {show(self.operands)}")
        check_count(self, "word_bits")
        check_number(self, "r_cost", "w_cost")
        if not isinstance(self.per_pe, bool):
            raise FieldError("per_pe", f"expected true or false, found {show(self.per_pe)}")
        if not is_count(self.extra_weight_bits) and self.extra_weight_bits != 0:
            raise FieldError("extra_weight_bits", f"expected an integer >= 0, found {show(self.extra_weight_bits)}")
        if self.size_bits is not None:
            check_count(self, "size_bits")
        if self.bw_bits_per_cycle is not None:
            check_positive(self, "bw_bits_per_cycle")


@dataclasses.dataclass(frozen=True)
class Precision:
    """Bits of the feature maps in the accelerator's memories."""

    I: int  # noqa: E741  (the operand's name in hardware descriptions)
    """Bits of one activation."""
    O: int  # noqa: E741
    """Bits of one output or partial sum."""

    def __post_init__(self) -> None:
        check_count(self, "I")
        check_count(self, "O")


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Description of an accelerator for the cost model."""

    name: str
    technology: str
    energy_unit: str
    """pJ, or mac16: relative to one 16-bit multiply-accumulate, without absolute energies."""
    counts: str
    """How accesses are counted: ``paper`` (the published formulas) or ``reuse`` (finite arrays, halo, DRAM)."""
    precision: Precision
    operational_array: OperationalArray
    memories: tuple[Memory, ...]
    """Innermost first."""
    clock_mhz: float | None = None
    """Clock, MHz; None: latency is only given in cycles."""
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)
    """Where the numbers come from."""
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.version != FORMAT_VERSION or isinstance(self.version, bool):
            raise FieldError("version", f"expected {FORMAT_VERSION}, found {show(self.version)}")
        check_text(self, "name", "technology")
        check_choice(self, "energy_unit", ENERGY_UNITS)
        check_choice(self, "counts", COUNTS)
        if self.clock_mhz is not None:
            check_positive(self, "clock_mhz")
        self._check_sources()
        self._check_memories()
        if self.counts == "paper":
            self._check_paper()

    def _check_sources(self) -> None:
        if not isinstance(self.sources, Mapping):
            raise FieldError("sources", f"expected a text for mac and one for memories, found {show(self.sources)}")
        for key in ("mac", "memories"):
            if key not in self.sources:
                raise FieldError(f"sources.{key}", "expected the source of the numbers, found nothing")
        for key, text in self.sources.items():
            if not isinstance(text, str) or not text.strip():
                raise FieldError(f"sources.{key}", f"expected a text, found {show(text)}")

    def _check_memories(self) -> None:
        if not self.memories:
            raise FieldError("memories", "expected at least one memory, found none")
        names = [memory.name for memory in self.memories]
        for index, memory in enumerate(self.memories):
            if memory.name in names[:index]:
                raise FieldError(f"memories[{index}].name", f"expected a unique name, found {memory.name!r} twice")
            if memory.per_pe and index and not self.memories[index - 1].per_pe:
                raise FieldError(
                    f"memories[{index}].per_pe", "expected per-PE memories before shared ones, found a shared one first"
                )
        for operand in OPERANDS:
            if sum(memory.per_pe and operand in memory.operands for memory in self.memories) > 1:
                raise FieldError("memories", f"expected at most one per-PE memory for {operand}, found several")
            if not any(operand in memory.operands for memory in self.memories if not memory.per_pe):
                raise FieldError("memories", f"expected a shared memory that holds {operand}, found none")

    def _check_paper(self) -> None:
        if self.operational_array.sizes is not None:
            raise FieldError(
                "operational_array.sizes",
                f"expected null (the paper's counts have no array sizes), found {show(self.operational_array.sizes)}",
            )
        if len(self.memories) != 1:
            raise FieldError("memories", f"expected one memory with counts: paper, found {len(self.memories)}")

    @property
    def energy_label(self) -> str:
        """Unit of the energies that the cost model returns: mJ, or 16-bit MACs."""
        return "mJ" if self.energy_unit == "pJ" else "16-bit MACs"

    @property
    def energy_scale(self) -> float:
        """Factor from this description's unit to that of ``energy_label``."""
        return 1e-9 if self.energy_unit == "pJ" else 1.0

    @property
    def has_joules(self) -> bool:
        """Whether energies are absolute."""
        return self.energy_unit == "pJ"

    def first_shared(self, operand: str) -> Memory:
        """Return the innermost memory that all PEs share and that holds an operand."""
        return next(memory for memory in self.memories if not memory.per_pe and operand in memory.operands)

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
            "mac": {"model": array.mac.model, **dataclasses.asdict(array.mac)},
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
        )


def preset_names() -> list[str]:
    """Return the names of the shipped hardware descriptions."""
    folder = importlib.resources.files("emomc.configs.hardware")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_hardware(name_or_path: str | Path) -> Hardware:
    """Read a hardware description.

    Args:
        name_or_path: the name of a shipped description (see ``preset_names``), or the path of a YAML file.

    Raises:
        UserError: there is no such description, or it is not valid; the message names the file and the wrong value.
    """
    name = str(name_or_path)
    if name in preset_names():
        text = importlib.resources.files("emomc.configs.hardware").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        content = parse_yaml(text)
    else:
        path = Path(name_or_path)
        if not path.is_file():
            presets = ", ".join(preset_names())
            raise UserError(f"expected a hardware file or one of {presets}, found neither under {name!r}")
        content = read_yaml(path, "a hardware file")
    try:
        return Hardware.from_dict(content)
    except FieldError as error:
        raise UserError(f"{name}: {error}") from None


def _build_array(values: Any) -> OperationalArray:
    return build(OperationalArray, values, mac=_build_mac)


def _build_mac(values: Any) -> Mac:
    values = dict(require_mapping(values))
    model = values.pop("model", None)
    if not isinstance(model, str) or model not in _MAC_MODELS:
        raise FieldError("model", f"expected one of {', '.join(_MAC_MODELS)}, found {show(model)}")
    return build(_MAC_MODELS[model], values)


def _build_memories(values: Any) -> tuple[Memory, ...]:
    if not isinstance(values, list):
        raise FieldError("", f"expected a list of memories, innermost first, found {show(values)}")
    memories = []
    for index, value in enumerate(values):
        try:
            memories.append(build(Memory, value))
        except FieldError as error:
            raise error.inside(f"[{index}]") from None
    return tuple(memories)


def _only(document: Any, key: str) -> Any:
    if not isinstance(document, Mapping) or list(document) != [key]:
        found = f"the keys {', '.join(map(str, document))}" if isinstance(document, Mapping) else show(document)
        raise FieldError(key, f"expected this key alone at the top level of the file, found {found}")
    return document[key]
