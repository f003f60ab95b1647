"""A library's networks in compressed form: any genotype's weights, ready to run, cost or export."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from emomc.cache import BoundedCache
from emomc.errors import UserError
from emomc.folding import FoldedState, fold_state, fold_structure
from emomc.genotype import Genotype
from emomc.layers import trace_network
from emomc.library import Library
from emomc.quantization import UNCOMPRESSED_BITS, QuantizedTensor, QuantizerMethod, dequantize, quantize_symmetric


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """How every layer's weights are quantized."""

    method: QuantizerMethod = "mse"
    """How the step is chosen: ``absmax`` or ``mse``."""
    per_channel: bool = False
    """One step per output channel instead of one per layer."""


class CompressedNetworks:
    """The networks that a library and a quantizer span, one for each genotype.

    Folded levels and quantized layers are made once and kept, within a bound, on the device that uses them. What is
    kept depends on (level, layer, bits) alone.
    """

    def __init__(
        self,
        library: Library,
        network: nn.Module,
        quantizer: Quantizer,
        *,
        device: torch.device | str = "cpu",
        max_cache_bytes: int = 4 << 30,
    ) -> None:
        """Prepare the folded network.

        Args:
            library: the checkpoints.
            network: the library's network, values of any kind.
            quantizer: how weights are quantized.
            device: where the network runs.
            max_cache_bytes: bound on the levels and on the quantized layers kept, each.

        Raises:
            UserError: the network's layers are not those of the library.
        """
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
        self.network = fold_structure(network, trace).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self._original = network
        self._trace = trace
        self._levels: BoundedCache[int, FoldedState] = BoundedCache(max_cache_bytes, _folded_bytes)
        self._quantized: BoundedCache[tuple[int, str, int], QuantizedTensor] = BoundedCache(
            max_cache_bytes, lambda tensor: tensor.codes.nbytes + tensor.scale.nbytes
        )

    def level(self, percent: int) -> FoldedState:
        """Return a level's folded state, on the device."""
        return self._levels.get(percent, lambda: self._load(percent))

    def quantized(self, percent: int, layer: str, bits: int) -> QuantizedTensor:
        """Return a layer's codes and the steps of its trained weights, before any BatchNorm is folded in."""
        return self._quantized.get(
            (percent, layer, bits),
            lambda: quantize_symmetric(
                self.level(percent).weights[layer],
                bits,
                method=self.quantizer.method,
                per_channel=self.quantizer.per_channel,
            ),
        )

    def folded_scale(self, percent: int, layer: str, bits: int) -> Tensor:
        """Return the scale by which a layer's codes are multiplied when the network runs, float32."""
        return self.level(percent).scale(layer, self.quantized(percent, layer, bits).scale)

    @torch.no_grad()
    def load(self, genotype: Genotype) -> nn.Module:
        """Copy a genotype's weights into the one folded network, in place, and return it."""
        folded = self.level(genotype.level)
        self.network.load_state_dict(folded.rest, strict=False)
        bits_of = dict(zip(self.layers, genotype.bits, strict=True))
        for layer in (*self.layers, *self.excluded):
            bits = bits_of.get(layer, UNCOMPRESSED_BITS)
            if bits == UNCOMPRESSED_BITS:
                weight = folded.full_precision(layer)
            else:
                weight = dequantize(
                    self.quantized(genotype.level, layer, bits).codes, self.folded_scale(genotype.level, layer, bits)
                )
            self.network.get_parameter(f"{layer}.weight").copy_(weight)
        return self.network

    def _load(self, percent: int) -> FoldedState:
        folded = fold_state(self.library.load_state(percent), self._original, self._trace)
        if not all(bool(weight.isfinite().all()) for weight in folded.weights.values()):
            raise UserError(f"expected finite weights in level {percent} % of {self.library.path}, found others")
        return FoldedState(*(_to(part, self.device) for part in (folded.weights, folded.factors, folded.rest)))


def _to(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _folded_bytes(state: FoldedState) -> int:
    return sum(tensor.nbytes for part in (state.weights, state.factors, state.rest) for tensor in part.values())


def _names(layers: tuple[object, ...]) -> str:
    names = [getattr(layer, "name", "") for layer in layers]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
