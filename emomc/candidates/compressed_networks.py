"""Build the compressed network of any genotype, to evaluate, cost or export it."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import torch
from torch import Tensor, nn

from emomc.candidates.finetuned_weights import FinetunedNetwork, read_finetuned
from emomc.candidates.genotype import Genotype
from emomc.common.cache import BoundedCache
from emomc.common.errors import UserError
from emomc.compression.activations import ActivationRounding
from emomc.compression.bias_correction import add_biases, mean_output_error
from emomc.compression.quantization import QuantizedTensor, dequantize, quantize_symmetric
from emomc.compression.quantizers import Quantizer
from emomc.compression.widths import UNCOMPRESSED_BITS
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.networks.folding import FoldedState, fold_state, fold_structure
from emomc.networks.tracing import trace_network
from emomc.networks.weights import check_fit


class CompressedNetworks:
    """The compressed networks of a library under one quantizer, one for each genotype.

    Folded levels and quantized layers are computed once and cached on the device, up to a memory limit. A cached layer
    depends on (level, layer, bits) alone.
    """

    def __init__(
        self,
        library: Library,
        network: nn.Module,
        quantizer: Quantizer,
        *,
        device: torch.device | str = "cpu",
        inputs: LayerInputStore | None = None,
        finetuned_folder: Path | None = None,
        max_cache_bytes: int = 4 << 30,
    ) -> None:
        """Prepare the folded network.

        Args:
            library: the pruned levels.
            network: the library's network, with arbitrary weights.
            quantizer: how weights are quantized.
            device: where the network runs.
            inputs: measured layer inputs, needed for bias correction and narrow activations (below 16 bits).
            finetuned_folder: folder of the weights of fine-tuned candidates.
            max_cache_bytes: memory limit of each cache.

        Raises:
            UserError: the network's layers differ from those of the library.
            ValueError: bias correction or narrow activations without ``inputs``.
        """
        if inputs is None and quantizer.needs_layer_inputs:
            raise ValueError("expected inputs= for bias correction or narrow activations, found none")
        manifest = library.manifest
        trace = trace_network(network, manifest.input_shape)
        if trace.layers != manifest.layers:
            raise UserError(
                f"expected the network of the library with the layers {_names(manifest.layers)}, "
                f"found {type(network).__name__} with {_names(trace.layers)} or other shapes"
            )
        self.library = library
        self.quantizer = quantizer
        self.device = torch.device(device)
        self.layers = tuple(layer.name for layer in manifest.compressed_layers)
        self.excluded = manifest.excluded_layers
        self.inputs = inputs
        self._finetuned_folder = finetuned_folder
        folded = fold_structure(network, trace)
        if quantizer.bias_correction:
            add_biases(folded, self.layers)
        self.network = folded.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        every = tuple(layer.name for layer in manifest.layers)
        bits = quantizer.activation_bits
        self._rounding = ActivationRounding(self.network, every, bits) if bits is not None else None
        self._original = network
        self._trace = trace
        self._levels: BoundedCache[int, FoldedState] = BoundedCache(max_cache_bytes, _folded_bytes)
        self._quantized: BoundedCache[tuple[int, str, int], QuantizedTensor] = BoundedCache(
            max_cache_bytes, lambda tensor: tensor.codes.nbytes + tensor.scale.nbytes
        )
        self._finetuned: BoundedCache[str, FinetunedNetwork] = BoundedCache(
            max_cache_bytes, lambda finetuned: finetuned.nbytes
        )
        self._biases: BoundedCache[tuple[int, str, int], Tensor] = BoundedCache(
            max_cache_bytes, lambda tensor: tensor.nbytes
        )

    def level(self, percent: int) -> FoldedState:
        """Return a level's folded state, on the device."""
        return self._levels.get(percent, lambda: self._load(percent))

    def finetuned(self, name: str) -> FinetunedNetwork:
        """Return the weights of a fine-tuned candidate, on the device."""
        if self._finetuned_folder is None or Path(name).name != name:
            raise UserError(f"expected the name of fine-tuned weights in {self._finetuned_folder}, found {name!r}")
        path = self._finetuned_folder / f"{name}.safetensors"
        return self._finetuned.get(name, lambda: read_finetuned(path, str(self.device)))

    def quantized(self, percent: int, layer: str, bits: int, finetuned: str = "") -> QuantizedTensor:
        """Return a layer's codes and quantization steps, before any BatchNorm is folded in."""
        if finetuned:
            return self.finetuned(finetuned).layers[layer]
        return self._quantized.get(
            (percent, layer, bits),
            lambda: quantize_symmetric(
                self.level(percent).weights[layer],
                bits,
                method=self.quantizer.method,
                per_channel=self.quantizer.per_channel,
            ),
        )

    def folded_scale(self, percent: int, layer: str, bits: int, finetuned: str = "") -> Tensor:
        """Return the scale by which a layer's codes are multiplied when the network runs, float32."""
        return self.level(percent).scale(layer, self.quantized(percent, layer, bits, finetuned).scale)

    def ranges(self, percent: int) -> dict[str, tuple[float, float]]:
        """Return layer name -> smallest and largest input of the layer in the calibration of a level."""
        if self.inputs is None:
            raise ValueError("expected inputs= for ranges of activations, found none")
        return {name: inputs.range for name, inputs in self.inputs.level(percent).items()}

    def rest(self, genotype: Genotype) -> dict[str, Tensor]:
        """Return a genotype's state without the layers' weights; with bias correction, its biases are corrected."""
        if genotype.finetuned:
            return self.finetuned(genotype.finetuned).rest
        rest = self.level(genotype.level).rest
        if not self.quantizer.bias_correction:
            return rest
        corrected = {
            f"{layer}.bias": self._biases.get(
                (genotype.level, layer, bits), functools.partial(self._corrected_bias, genotype.level, layer, bits)
            )
            for layer, bits in zip(self.layers, genotype.bits, strict=True)
            if bits != UNCOMPRESSED_BITS
        }
        return rest | corrected

    @torch.no_grad()
    def load(self, genotype: Genotype) -> nn.Module:
        """Copy a genotype's weights into the shared folded network, in place, and return it.

        Layer inputs are rounded to narrow activations unless every layer is uncompressed.
        """
        folded = self.level(genotype.level)
        self.network.load_state_dict(self.rest(genotype), strict=False)
        if self._rounding is not None:
            whole = all(bits == UNCOMPRESSED_BITS for bits in genotype.bits)
            self._rounding.use(None if whole else self.ranges(genotype.level))
        bits_of = dict(zip(self.layers, genotype.bits, strict=True))
        for layer in (*self.layers, *self.excluded):
            bits = bits_of.get(layer, UNCOMPRESSED_BITS)
            if bits == UNCOMPRESSED_BITS:
                weight = folded.full_precision(layer)
            else:
                which = genotype.level, layer, bits, genotype.finetuned
                weight = dequantize(self.quantized(*which).codes, self.folded_scale(*which))
            self.network.get_parameter(f"{layer}.weight").copy_(weight)
        return self.network

    @torch.no_grad()
    def trainable(self, genotype: Genotype) -> tuple[nn.Module, dict[str, tuple[Tensor, QuantizedTensor]]]:
        """Return a copy of a genotype's network for fine-tuning, and its masks and quantized layers.

        Returns:
            The folded network with trainable biases, norms and compressed layers, whose weights are not rounded and
            have no BatchNorm folded in; and layer name -> mask (true where the weight remains) and the genotype's
            codes and steps.
        """
        folded = self.level(genotype.level)
        network = copy.deepcopy(self.load(genotype))
        masks = self.library.load_masks(genotype.level, self.library.load_state(genotype.level))
        layers = {}
        for layer, bits in zip(self.layers, genotype.bits, strict=True):
            network.get_parameter(f"{layer}.weight").copy_(folded.weights[layer])
            layers[layer] = (masks[layer].to(self.device), self.quantized(genotype.level, layer, bits))
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name not in {f"{layer}.weight" for layer in self.excluded})
        return network, layers

    def _load(self, percent: int) -> FoldedState:
        state = self.library.load_state(percent)
        file = self.library.path / self.library.record(percent).file
        check_fit(state, self._original.state_dict(), type(self._original).__name__, file)
        folded = fold_state(state, self._original, self._trace)
        if self.quantizer.bias_correction:
            for layer in self.layers:
                folded.rest.setdefault(f"{layer}.bias", torch.zeros(len(folded.weights[layer])))
        return FoldedState(*(_to(part, self.device) for part in (folded.weights, folded.factors, folded.rest)))

    @torch.no_grad()
    def _corrected_bias(self, percent: int, layer: str, bits: int) -> Tensor:
        """Return the folded bias that gives the layer the mean output of its unquantized weights."""
        if self.inputs is None:
            raise ValueError("expected inputs= for bias correction, found none")
        folded, inputs = self.level(percent), self.inputs.level(percent)[layer]
        quantized = self.quantized(percent, layer, bits).dequantize()
        error = mean_output_error(inputs.mean_patch, folded.weights[layer], quantized)
        factor = folded.factors.get(layer)
        bias = folded.rest[f"{layer}.bias"]
        return (bias.double() - (error if factor is None else error * factor.double())).to(bias.dtype)


def _to(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _folded_bytes(state: FoldedState) -> int:
    return sum(tensor.nbytes for part in (state.weights, state.factors, state.rest) for tensor in part.values())


def _names(layers: tuple[object, ...]) -> str:
    names = [getattr(layer, "name", "") for layer in layers]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
