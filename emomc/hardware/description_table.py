"""Say in words what a hardware description holds."""

from __future__ import annotations

from rich.table import Table

from emomc.hardware.description import Hardware, Memory, Target
from emomc.hardware.mac_energy import AffineMac, BilinearMac, TableMac
from emomc.hardware.measured_hardware import NEXT, MeasuredHardware
from emomc.hardware.zero_skipping import GATED, NONE, SKIPPED

_OPERANDS = {"I": "inputs", "W": "weights", "O": "outputs"}
_ZEROS = {
    NONE: "as any other number",
    GATED: "no energy in the array, but the cycle",
    SKIPPED: "neither energy nor a cycle",
}
_COUNTS = {"paper": "by the EMOMC paper's formulas", "reuse": "by reuse in an array and memories of finite size"}


def one_line(hardware: Target) -> str:
    """Return a description in one line."""
    if isinstance(hardware, MeasuredHardware):
        return f"{hardware.technology}; measured in {hardware.table.file}"
    unit = {"pJ": "joules", "mac16": "relative energies", "none": "cycles only"}[hardware.energy_unit]
    return f"{hardware.technology}; {_array(hardware)}; {unit}"


def description_table(hardware: Target) -> Table:
    """Return a description as a rich table of what and how."""
    table = Table(title=hardware.name, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, text in _measured_rows(hardware) if isinstance(hardware, MeasuredHardware) else _rows(hardware):
        table.add_row(name, text)
    return table


def _measured_rows(hardware: MeasuredHardware) -> list[tuple[str, str]]:
    table = hardware.table
    between = "the next wider that was measured" if hardware.between_bits == NEXT else "on a line between two"
    energies = "and millijoules" if table.has_energy else "alone, no energies"
    return [
        ("technology", hardware.technology),
        (
            "measured",
            f"milliseconds {energies}, in {table.file}: {len(table.by_shape)} shapes of layers and "
            f"{len(table.by_layer)} layers by name",
        ),
        ("other widths", between),
        ("not rounded", f"{hardware.precision.I} bits an input"),
        *((f"source of {key}", text) for key, text in hardware.sources.items()),
    ]


def _rows(hardware: Hardware) -> list[tuple[str, str]]:
    unit = hardware.energy_label and f"in {'pJ' if hardware.has_joules else 'energies of a 16-bit multiply-accumulate'}"
    zeros = hardware.zero_skipping
    rows = [
        ("technology", hardware.technology),
        ("energy", unit or "not known: cycles only"),
        ("accesses", f"counted {_COUNTS[hardware.counts]}"),
        ("array", _array(hardware)),
        ("multiply-accumulate", _mac(hardware)),
        ("widths", f"{hardware.precision.I} bits an input, {hardware.precision.O} bits a partial sum"),
        ("zero weights", _ZEROS.get(zeros.W, f"skipped where they follow the pattern {zeros.pattern}")),
        ("zero inputs", _ZEROS[zeros.I]),
        *((f"memory {memory.name}", _memory(memory, hardware)) for memory in hardware.memories),
        ("clock", "not known" if hardware.clock_mhz is None else f"{hardware.clock_mhz:g} MHz"),
        *((f"source of {key}", text) for key, text in hardware.sources.items()),
    ]
    if hardware.energy_per_cycle:
        rows.insert(5, ("whatever it does", f"{hardware.energy_per_cycle:g} a cycle"))
    return rows


def _array(hardware: Hardware) -> str:
    array = hardware.operational_array
    sizes = "as many PEs as a layer can use" if array.sizes is None else f"{array.sizes[0]} x {array.sizes[1]} PEs"
    if array.cycles_by_bits is not None:
        return f"{sizes}, cycles a step by the bits of its operands"
    return sizes if array.cycles_per_step == 1 else f"{sizes}, {array.cycles_per_step:g} cycles a step"


def _mac(hardware: Hardware) -> str:
    mac = hardware.operational_array.mac
    if isinstance(mac, AffineMac):
        return f"{mac.base:g} + {mac.per_weight_bit:g} x weight bits"
    if isinstance(mac, BilinearMac):
        return f"{mac.per_bit2:g} x weight bits x input bits + {mac.add:g}"
    if isinstance(mac, TableMac):
        widths = ", ".join(f"{energy:g} for {bits} bits" for bits, energy in sorted(mac.by_weight_bits.items()))
        return f"{widths} of a weight, up to {mac.activation_bits} bits of an input; wider ones in slices"
    return "not known"


def _memory(memory: Memory, hardware: Hardware) -> str:
    held = " and ".join(_OPERANDS[operand] for operand in memory.operands)
    where = "one in each PE" if memory.per_pe else "shared by all PEs"
    size = "of unlimited size" if memory.size_bits is None else f"{memory.size_bits / 8192:.4g} KiB"
    speed = memory.bw_bits_per_cycle
    text = f"{held}; {where}; {size}; {'any speed' if speed is None else f'{speed:g} bits a cycle'}"
    if hardware.has_energy:
        text += f"; {memory.r_cost:g} to read and {memory.w_cost:g} to write {memory.word_bits} bits"
    if not memory.per_pe and "W" in memory.operands:
        text += "; weights in their coding" if hardware.holds_codes(memory) else "; weights as they are"
    return text
