"""Compare the graphs of public networks with the networks themselves, and their layers with an independent count.

    python -m benchmarks.quality.network_zoo --output docs/results/network_zoo.md

Needs ``pip install timm onnx onnxruntime onnxscript`` for the whole table. Weights are random, norms have random
statistics, images are small. "MACs" compares the layer table with ``torch.utils.flop_counter``; "folded" and "ONNX" are
the largest differences of logits from the network in eval mode, relative to the largest logit.
"""

from __future__ import annotations

import dataclasses
import importlib
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from benchmarks.common.command_line import argument_parser
from benchmarks.common.page import made_by, publish
from benchmarks.common.tables import table
from emomc.common.errors import UserError, first_line
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import NetworkGraph, count_macs, trace_network

CLASSES = 10
TORCHVISION = {
    "alexnet": 64,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 64,
    "mnasnet1_0": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_large": 64,
    "mobilenet_v3_small": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnet34": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "shufflenet_v2_x1_0": 64,
    "squeezenet1_0": 64,
    "squeezenet1_1": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg11": 64,
    "vgg11_bn": 64,
    "vit_b_16": 224,
    "wide_resnet50_2": 64,
}
TIMM = {
    "convmixer_768_32": 64,
    "efficientnet_lite0": 64,
    "ghostnet_100": 64,
    "hardcorenas_a": 64,
    "lcnet_050": 64,
    "levit_128s": 224,
    "mixer_s32_224": 224,
    "mobilenetv3_small_050": 64,
    "mobilenetv4_conv_small": 64,
    "mobileone_s0": 64,
    "nf_regnet_b1": 64,
    "regnety_002": 64,
    "repvgg_a0": 64,
    "resnet10t": 64,
    "resnetv2_50": 64,
    "tf_efficientnet_b0": 64,
    "tinynet_e": 64,
    "vit_tiny_patch16_224": 224,
}


@dataclasses.dataclass
class Row:
    """What came of one network."""

    name: str
    side: int
    layers: int = 0
    kinds: str = ""
    gmacs: float = 0.0
    counted: float = 0.0
    """MACs of the table over those of the independent count."""
    folded_norms: int = 0
    folded: float | None = None
    onnx: str = ""
    seconds: float = 0.0
    refused: str = ""

    @property
    def wrong(self) -> bool:
        """Whether a difference is more than rounding."""
        return self.folded is not None and not self.folded <= 1e-4


def make(name: str) -> Callable[[], nn.Module]:
    """Return what makes a network: ``torchvision:NAME`` or ``timm:NAME``."""
    where, _, model = name.partition(":")
    if where == "timm":
        return lambda: importlib.import_module("timm").create_model(model, num_classes=CLASSES)
    arguments = {"googlenet": {"init_weights": True}, "inception_v3": {"init_weights": True}}.get(model, {})
    models = importlib.import_module("torchvision.models")
    return lambda: getattr(models, model)(num_classes=CLASSES, **arguments)


def randomise_norms(network: nn.Module, seed: int) -> None:
    """Give every norm statistics and parameters of a trained network's kind, which folding must not lose."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, value in [*module.named_buffers(recurse=False)]:
            if name == "running_mean":
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            elif name == "running_var":
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Linear) and not bool(weight.any()):
            # Some heads begin with zeros: their logits would say nothing.
            nn.init.normal_(weight, std=0.05, generator=generator)
        if "Norm" in type(module).__name__ and isinstance(getattr(module, "weight", None), nn.Parameter):
            with torch.no_grad():
                module.weight.copy_(0.75 + 0.5 * torch.rand(module.weight.shape, generator=generator))


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    return float((found - expected).abs().max() / expected.abs().max())


def folded_module(graph: NetworkGraph, network: nn.Module) -> nn.Module:
    """Return the network as a search evaluates it: folded, channels last."""
    folded = FoldedNetwork(graph)
    folded.load(folded.fold(network.state_dict()))
    return folded.module.to(memory_format=torch.channels_last)


def onnx_difference(module: nn.Module, images: torch.Tensor, expected: torch.Tensor) -> str:
    """Export the folded network to ONNX, run it, and return the difference."""
    try:
        import onnxruntime
    except ImportError:
        return "not installed"
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        try:
            batch = ({0: torch.export.Dim("batch", min=2, max=4096)},)
            program = torch.export.export(
                module.to(memory_format=torch.contiguous_format), (images,), dynamic_shapes=batch
            )
            torch.onnx.export(program, dynamo=True, verbose=False).save(path)
            session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        except Exception as error:
            return f"refused: {first_line(error)[:60]}"
    return f"{difference(torch.from_numpy(found), expected):.0e}"


def macs_of_one(network: nn.Module, image: torch.Tensor) -> int:
    """Return the MACs of one image as torch counts them; attention's fused kernels would hide some."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        return count_macs(network, image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def examine(name: str, side: int, *, with_onnx: bool) -> Row:
    """Trace one network and compare."""
    row = Row(name, side)
    torch.manual_seed(0)
    network = make(name)().eval()
    randomise_norms(network, seed=1)
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2))
    began = time.perf_counter()
    try:
        graph = trace_network(network, (3, side, side))
    except UserError as error:
        row.refused = str(error)
        return row
    row.seconds = time.perf_counter() - began
    with torch.no_grad():
        expected = network(images)
        counted = macs_of_one(network, images[:1])
        module = folded_module(graph, network)
        row.folded = difference(module(images.contiguous(memory_format=torch.channels_last)), expected)
        macs = sum(layer.macs for layer in graph.layers)
        row.counted = macs / counted
        row.gmacs = macs / 1e9
        row.layers = len(graph.layers)
        kinds = [layer.kind if layer.stored else "costed only" for layer in graph.layers]
        row.kinds = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        row.folded_norms = len(graph.norms)
        if with_onnx:
            row.onnx = onnx_difference(module, images, expected)
    return row


def page(rows: list[Row]) -> str:
    """Return the page."""
    head = ["network", "image", "layers", "G MACs", "MACs / counted", "norms folded", "folded", "ONNX", "seconds"]
    lines = []
    for row in rows:
        if row.refused:
            lines.append([row.name, str(row.side), "refused: " + row.refused, *[""] * (len(head) - 3)])
            continue
        cells = [row.name, str(row.side), f"{row.layers}: {row.kinds}", f"{row.gmacs:.4g}", f"{row.counted:.4f}"]
        lines.append([*cells, str(row.folded_norms), f"{row.folded:.0e}", row.onnx, f"{row.seconds:.1f}"])
    good = [row for row in rows if not row.refused]
    equal = sum(abs(row.counted - 1) < 1e-9 for row in good)
    return f"""# Public networks: graph, layers, folding, ONNX

{made_by()}

Of {len(rows)} networks {len(good)} are exported, {len(rows) - len(good)} refused in one line. The MACs of the layer
table equal the independent count for {equal}; the folded network's logits differ by more than 1e-4 of the largest for
{sum(row.wrong for row in good)}.

{table(head, lines)}
"""


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--networks", nargs="*", help="such as torchvision:resnet18 timm:lcnet_050; all if not given")
    parser.add_argument("--no_onnx", action="store_true", help="leave ONNX out")
    parser.add_argument("--output", type=Path, help="markdown file to write, besides printing")
    arguments = parser.parse_args()
    every = {f"torchvision:{name}": side for name, side in TORCHVISION.items()}
    every |= {f"timm:{name}": side for name, side in TIMM.items()}
    rows = []
    for name in arguments.networks or every:
        rows.append(examine(name, every.get(name, 64), with_onnx=not arguments.no_onnx))
        print(dataclasses.asdict(rows[-1]), flush=True)
    publish(page(rows), arguments.output)


if __name__ == "__main__":
    main()
