"""The page and the table of how sensitive each layer is."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping

from emomc.pretraining.layer_sensitivity import BITS, DENSITIES, LayerSensitivity, NetworkSensitivity

# Loss in percentage points up to which a cell has a shade; what is beyond has the last one.
_SHADES = (0.2, 0.5, 1.0, 2.0, 5.0, 20.0)

_STYLE = """
:root { color-scheme: light dark }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 82rem }
h1 { font-size: 1.4rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .45rem; text-align: right; border: 1px solid #8884; white-space: nowrap }
th:first-child { text-align: left }
.s0 { background: transparent } .s1 { background: #e6a11718 } .s2 { background: #e6a11738 }
.s3 { background: #e6781758 } .s4 { background: #e65a1778 } .s5 { background: #d63a1798 } .s6 { background: #b81414c0 }
"""


def sensitivity_table(found: NetworkSensitivity) -> str:
    """Return one line of CSV for each measurement: layer, weights, MACs, what was changed, to what, accuracy 0..1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "weights", "macs", "change", "value", "validation_accuracy", "images"])
    for one in found.layers:
        for change, correct in (("density_percent", one.by_density), ("bits", one.by_bits)):
            for value, count in correct.items():
                accuracy = count / found.images
                layer = one.layer
                writer.writerow([layer.name, layer.weights, layer.macs, change, value, f"{accuracy:.6f}", found.images])
    return text.getvalue()


def sensitivity_page(found: NetworkSensitivity, title: str) -> str:
    """Return a page of HTML that loads nothing: accuracy over density and over bits, one row per layer.

    Args:
        found: what was measured.
        title: name of the network and its data.
    """
    dense = 100 * found.dense_correct / found.images
    heading = f"How sensitive each layer is: {html.escape(title)}"
    head = ["layer", "weights", "MACs", "free to", *(f"{percent} %" for percent in DENSITIES)]
    head += ["free to", *(f"{bits} bits" for bits in BITS)]
    rows = "\n".join(_row(found, one) for one in found.layers)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{heading}</title>
<style>{_STYLE}</style>
<h1>{heading}</h1>
<p>The dense network classifies {dense:.2f} % of {found.images} validation images correctly. Each cell has that
accuracy, in percent, when one layer alone keeps so many percent of its weights (the largest), or so many bits (one step
per channel), and is not trained afterwards. The darker a cell, the more is lost. <i>Free to</i>: the last value
before more than one image in 500 is lost.</p>
<div class="wide"><table>
<tr>{"".join(f"<th>{name}</th>" for name in head)}</tr>
{rows}
</table></div>
</html>
"""


def _row(found: NetworkSensitivity, one: LayerSensitivity) -> str:
    layer = one.layer
    cells = [f"<th>{html.escape(layer.name)}</th>", f"<td>{layer.weights:,}</td>", f"<td>{layer.macs:,}</td>"]
    for correct, unit in ((one.by_density, " %"), (one.by_bits, " bits")):
        free = found.lossless(correct)
        cells.append(f"<td><b>{'-' if free is None else f'{free}{unit}'}</b></td>")
        cells += _cells(found, correct)
    return f"<tr>{''.join(cells)}</tr>"


def _cells(found: NetworkSensitivity, correct: Mapping[int, int]) -> Iterable[str]:
    for count in correct.values():
        loss = 100 * (found.dense_correct - count) / found.images
        shade = sum(loss > edge for edge in _SHADES)
        yield f'<td class="s{shade}">{100 * count / found.images:.1f}</td>'
