import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from emomc.common.errors import UserError
from emomc.compression.quantization import quantize_symmetric
from emomc.export.formats import ExportOptions, export_network
from emomc.export.loading import dense_state, unpack_network
from emomc.export.onnx_targets import onnx_options
from emomc.export.onnx_tracing import trace_onnx
from emomc.networks.build import build_network
from emomc.networks.folding import FoldedNetwork
from emomc.networks.graph import trace_network
from emomc.packed_file.network import NetworkDescription, PackedLayer, PackedNetwork
from emomc.packed_file.reader import read_packed

onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")

ZIGZAG = ExportOptions(onnx=onnx_options("zigzag"))


class Tokens(nn.Module):
    """A linear layer over three dimensions, whose weights an exporter turns around, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        tokens = self.norm(self.stem(images)).flatten(2).transpose(1, 2)
        return self.head(self.mix(self.mix(tokens).relu()).mean(1))


def pack(network, spec, input_shape, bits, per_channel=False):
    """Quantize a network whose norms have a negative and a zero gamma."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data[0], module.weight.data[1] = -0.5, 0
            module.running_mean.normal_()
    trace = trace_network(network, input_shape)
    folded = FoldedNetwork(trace).fold(network.state_dict())
    layers = []
    for index, layer in enumerate(trace.layers):
        width = bits[index]
        if width == 32:
            weight = folded.full_precision(layer.name).detach().numpy()
            layers.append(PackedLayer(layer.name, 32, weight, np.zeros(0, np.float32)))
            continue
        quantized = quantize_symmetric(folded.weights[layer.name], width, per_channel=per_channel)
        scale = folded.scale(layer.name, quantized.scale)
        layers.append(PackedLayer(layer.name, width, quantized.codes.numpy(), scale.numpy()))
    classes = tuple(f"class {index}" for index in range(trace.output_shape[0]))
    description = NetworkDescription(
        spec, {}, None, input_shape, classes, (0.5,) * input_shape[0], (0.25,) * input_shape[0]
    )
    tensors = {name: tensor.detach().numpy() for name, tensor in folded.rest.items()}
    return PackedNetwork(description, tuple(layers), tensors)


def cases():
    torch.manual_seed(0)
    lenet = build_network("lenet5", in_channels=1, num_classes=10)
    yield "lenet5", pack(lenet, "lenet5", (1, 32, 32), (2, 4, 32, 8, 12)), None
    tokens = Tokens()
    yield "tokens", pack(tokens, "tokens.py:Tokens", (3, 20, 16), (3, 8, 11), per_channel=True), tokens


@pytest.fixture(scope="module", params=cases(), ids=lambda case: case[0])
def case(request):
    return request.param[1:]


def test_onnx_holds_integers_and_gives_the_same_classes_in_onnxruntime(case, tmp_path):
    packed, network = case
    path = tmp_path / "network.onnx"
    assert export_network(path, packed, "onnx", network=network) == path.stat().st_size
    model = onnx.load(path)
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in model.graph.input] == ["batch"]
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types = onnx.TensorProto
    for layer in packed.layers:
        expected = types.INT4 if layer.bits <= 4 else types.INT8 if layer.bits <= 8 else types.INT16
        found = [kind for name, kind in kinds.items() if name.startswith(f"{layer.name}.weight")]
        if layer.bits == 32:
            assert found == [types.FLOAT]
        elif found:  # under its own name, not turned around
            assert set(found) == {types.FLOAT, expected}
    steps = sum(node.op_type == "DequantizeLinear" for node in model.graph.node)
    assert steps == sum(layer.bits != 32 for layer in packed.layers)
    assert max(kinds.values()) >= types.INT16

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = torch.randn(500, *packed.description.input_shape)
    logits = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
    expected = unpack_network(packed, network)(images)
    # 4-bit matrix products may be computed in lower precision by the runtime.
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))
    assert (logits.argmax(1) == expected.argmax(1)).float().mean() >= 0.999
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["class_names"]) == list(packed.description.class_names)
    assert json.loads(properties["mean"]) == list(packed.description.mean)
    # Nothing tells where it was made.
    assert str(tmp_path.home()).encode() not in path.read_bytes()


def test_onnx_for_zigzag_carries_bits_and_shapes(tmp_path):
    name, packed, network = next(cases())
    path = tmp_path / f"{name}.onnx"
    assert export_network(path, packed, "onnx", options=ZIGZAG, network=network) == path.stat().st_size
    graph = onnx.load(path).graph
    sizes = {
        node.name: {attribute.name: attribute.i for attribute in node.attribute}
        for node in graph.node
        if node.op_type in ("Conv", "Gemm")
    }
    assert {layer: (found["weight_size"], found["act_size"]) for layer, found in sizes.items()} == {
        layer.name: (layer.bits, 16) for layer in packed.layers
    }
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in graph.value_info}
    for node in graph.node[:-1]:
        assert all(side > 0 for side in shapes[node.output[0]])


def test_zigzag_reads_bits_and_work(case, tmp_path):
    zigzag = pytest.importorskip("zigzag", reason="the extra 'zigzag' is not installed")
    from zigzag.parser.onnx.onnx_model_parser import ONNXModelParser

    packed, network = case
    path = tmp_path / "network.onnx"
    export_network(path, packed, "onnx", options=ZIGZAG, network=network)
    mapping = Path(zigzag.__file__).parent / "inputs" / "mapping" / "default.yaml"
    nodes = ONNXModelParser(str(path), str(mapping)).run().nodes()
    found = {}
    for node in nodes:
        if hasattr(node, "total_mac_count"):
            bits = {str(operand): size for operand, size in node.operand_precision.data.items()}
            work = found.get(node.name, (0, 0, 0))[2] + node.total_mac_count
            found[node.name] = (bits["W"], bits["I"], work)
    trace = trace_network(
        network or build_network("lenet5", in_channels=1, num_classes=10), packed.description.input_shape
    )
    expected = {
        layer.name: (code.bits, 16, layer.macs) for layer, code in zip(trace.layers, packed.layers, strict=True)
    }
    assert found == expected


def test_torch_is_a_plain_dense_state_dict_of_the_folded_network(case, tmp_path):
    packed, network = case
    path = tmp_path / "network.safetensors"
    assert export_network(path, packed, "torch", network=network) == path.stat().st_size
    state = load_file(path)
    expected = unpack_network(packed, network)
    assert state.keys() == expected.state_dict().keys() == dense_state(packed, network).keys()
    expected.load_state_dict(state)
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in state.items())


def test_emomc_is_the_packed_file_in_the_asked_coding(case, tmp_path):
    packed, _ = case
    sizes = {}
    for coding in ("normal", "best"):
        path = tmp_path / f"{coding}.emomc"
        sizes[coding] = export_network(path, packed, "emomc", options=ExportOptions(coding))
        assert [layer.bits for layer in read_packed(path).layers] == [layer.bits for layer in packed.layers]
    assert sizes["best"] <= sizes["normal"]


def test_what_cannot_be_exported_is_refused(tmp_path):
    *_, (_, packed, _) = cases()
    with pytest.raises(UserError, match="a format of emomc, onnx, c, torch, found 'tflite'"):
        export_network(tmp_path / "network", packed, "tflite")
    with pytest.raises(UserError, match=r"expected network=, an instance of tokens\.py:Tokens"):
        export_network(tmp_path / "network", packed, "onnx")

    class Undecided(Tokens):
        def forward(self, images):
            logits = super().forward(images)
            return logits if float(logits.sum()) > 0 else -logits

    with pytest.raises(UserError, match=r"torch\.export can follow, found that Undecided cannot be exported"):
        export_network(tmp_path / "network", packed, "onnx", network=Undecided())
    assert not list(tmp_path.iterdir())


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.leak, self.head = nn.Conv2d(1, 2, 3), nn.RReLU(), nn.Linear(2, 3)

        def forward(self, images):
            return self.head(self.leak(self.conv(images)).mean((2, 3)))

    folded = FoldedNetwork(trace_network(Noisy(), (1, 8, 8)))
    description = NetworkDescription("noisy.py:Noisy", {}, None, (1, 8, 8), ("a", "b", "c"), (0.5,), (0.25,))
    with pytest.raises(UserError, match=r"that torch\.onnx\.export can trace, found that .* fails: .*aten\.rrelu"):
        trace_onnx(folded, description, opset=18)
