"""Torch-Pruning: whole channels are removed, the rest is fine-tuned and quantized to 8 bits.

Its README: ``tp.pruner.BasePruner`` with ``GroupMagnitudeImportance``, the last layer ignored, some steps, and fine-
tuning between them; the widths of the layers are then smaller, so that no index is needed. It does not quantize:
torchao's post-training quantization does, as in its own row. Activations of 8 bits.
"""

import torch
import torch_pruning as tp
import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
from problem import Compressed, Layer, Problem, run
from pt2e import read as read_graph
from torch import nn
from torch.fx import GraphModule
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def pruned(problem: Problem, remaining: float, epochs: int) -> tuple[nn.Module, GraphModule]:
    network, images = problem.network(), problem.images("calibration")
    last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        network,
        images[:1],
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=1 - remaining**0.5,
        iterative_steps=epochs // 2,
        global_pruning=False,
        ignored_layers=[last],
    )
    for epoch in range(epochs):
        if epoch < epochs // 2:
            pruner.step()
            optimizer = torch.optim.AdamW(network.train().parameters(), lr=1e-3)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(problem.labels("train")) // 128 + 1)
        for batch, labels in problem.batches("train", 128, seed=epoch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(batch), labels).backward()
            optimizer.step()
            if epoch == epochs - 1:
                decay.step()
    sizes = {0: torch.export.Dim("batch", min=2, max=4096)}
    exported = torch.export.export(network.eval(), (images[:32],), dynamic_shapes=(sizes,)).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, quantizer)
    for part in images.split(32):
        prepared(part)
    return network, move_exported_model_to_eval(convert_pt2e(prepared))


def read(problem: Problem, made: tuple[nn.Module, GraphModule]) -> Compressed:
    network, graph = made
    parts = dict(network.named_modules())
    own = {name: parts[name].weight.detach() for name in problem.weights}
    found = read_graph(problem, graph, own)
    layers = {
        name: Layer(layer.weights, layer.bits, layer.scales, layer.zero_points, getattr(parts[name], "groups", 1))
        for name, layer in found.layers.items()
    }
    return Compressed(graph, layers, 8, found.activation_grids)


SETTINGS = {"pruned": [{"remaining": share, "epochs": 4} for share in (0.5, 0.25)]}

run([pruned], read, SETTINGS)
