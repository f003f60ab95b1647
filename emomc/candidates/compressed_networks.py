"""Build the compressed network of any genotype, to evaluate, cost or export it."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from emomc.candidates.finetuned_weights import FinetunedNetwork, finetuned_path, read_finetuned
from emomc.candidates.genotype import Genotype
from emomc.candidates.sliced_levels import SlicedLevels
from emomc.common.cache import BoundedCache, MemoryBound
from emomc.common.errors import UserError, require
from emomc.compression.activation_grid import ActivationGrid, Range
from emomc.compression.activations import ActivationRounding, integer_bias
from emomc.compression.bias_correction import mean_output_error
from emomc.compression.float16 import round_bias, round_scales
from emomc.compression.input_products import input_blocks
from emomc.compression.layer_inputs import LayerInputs
from emomc.compression.levels import LevelName
from emomc.compression.quantization import QuantizedTensor, dequantize, quantize_symmetric, weight_of_codes
from emomc.compression.quantizers import Quantizer
from emomc.compression.rounding import MOST_LEARNED_BITS, learn_roundings
from emomc.compression.widths import FULL_ACTIVATION_BITS, UNCOMPRESSED_BITS
from emomc.library.layer_input_store import LayerInputStore
from emomc.library.library import Library
from emomc.networks.folding import FoldedNetwork, FoldedState
from emomc.networks.graph import NetworkGraph, NetworkWarning
from emomc.networks.layers import output_first
from emomc.networks.weights import check_fit

_QUANTIZED_TOGETHER = 1 << 25
"""Codes that are learned at once, at most, if they are of more than one level: about 2 GiB of memory."""


class CompressedNetworks:
    """The compressed networks of a library under one quantizer, one for each genotype.

    Folded levels and quantized layers are computed once and cached on the device, up to a memory limit. A cached layer
    depends on (level, layer, bits) alone, a cached bias on the bits of the layer's inputs, too.
    """

    def __init__(
        self,
        library: Library,
        graph: NetworkGraph,
        quantizer: Quantizer,
        *,
        device: torch.device | str = "cpu",
        inputs: LayerInputStore | None = None,
        finetuned_folder: Path | None = None,
        max_cache_bytes: int | MemoryBound = 4 << 30,
    ) -> None:
        """Prepare the folded network.

        Args:
            library: the pruned levels.
            graph: of the library's network, with arbitrary weights: see ``library_graph``.
            quantizer: how weights are quantized.
            device: where the network runs.
            inputs: measured layer inputs, needed for bias correction, narrow activations (below 16 bits) and learned
                rounding.
            finetuned_folder: folder of the weights of fine-tuned candidates.
            max_cache_bytes: memory limit of all that is cached together, and of what is reserved from it.

        Raises:
            ValueError: no ``inputs`` where they are needed.
        """
        if inputs is None and quantizer.needs_layer_inputs:
            raise ValueError("expected inputs= for bias correction, narrow activations or learned rounding, found none")
        self.library = library
        self.graph = graph
        self.quantizer = quantizer
        self.device = torch.device(device)
        self.shapes = {layer.name: layer for layer in library.manifest.compressed_layers}
        self.layers = tuple(self.shapes)
        self.maps = graph.maps
        """Of the network, layers in the order of the manifest."""
        self.inputs = inputs
        self._finetuned_folder = finetuned_folder
        self._folded = FoldedNetwork(graph, self.layers if quantizer.bias_correction else ()).to(self.device)
        self.network = self._folded.module
        self._rounding = None
        if quantizer.rounds_inputs:
            optional = FULL_ACTIVATION_BITS in quantizer.layer_activation_bits
            self._rounding = ActivationRounding(self._folded, optional=optional)
        self._grids: dict[tuple[LevelName, str, int], ActivationGrid] = {}
        self._corrected = tuple(layer for layer in self.layers if layer in self._folded.bias_keys)
        if quantizer.bias_correction and len(self._corrected) < len(self.layers):
            without = ", ".join(sorted({*self.layers} - {*self._corrected}))
            warnings.warn(f"layers that cannot add a bias of their own are not corrected: {without}", NetworkWarning, 2)
        self.memory = max_cache_bytes if isinstance(max_cache_bytes, MemoryBound) else MemoryBound(max_cache_bytes)
        """What the cached levels, layers and biases share; images on the device may be reserved from it."""
        self._levels: BoundedCache[LevelName, FoldedState] = BoundedCache(self.memory, lambda state: state.nbytes)
        self._quantized: BoundedCache[tuple[LevelName, str, int], QuantizedTensor] = BoundedCache(
            self.memory, lambda tensor: tensor.codes.nbytes + tensor.scale.nbytes
        )
        self._finetuned: BoundedCache[str, FinetunedNetwork] = BoundedCache(
            self.memory, lambda finetuned: finetuned.nbytes
        )
        self._biases: BoundedCache[tuple[LevelName, str, int, int], Tensor] = BoundedCache(
            self.memory, lambda tensor: tensor.nbytes
        )
        # Not ``self``: in a cycle, the networks would fill a GPU until Python's collector comes.
        further: dict[str, Any] = {"device": device, "inputs": inputs, "finetuned_folder": finetuned_folder}
        further["max_cache_bytes"] = self.memory
        self._sliced = SlicedLevels(
            library, graph, lambda own, smaller: CompressedNetworks(own, smaller, quantizer, **further)
        )

    def of(self, level: LevelName) -> CompressedNetworks:
        """Return the networks of a level: these, or those of the smaller network that a level of channels is."""
        return self._sliced.get(level, self)

    def by_network(self, levels: Sequence[LevelName]) -> dict[CompressedNetworks, list[int]]:
        """Return the networks of some levels -> the positions of their levels."""
        found: dict[CompressedNetworks, list[int]] = {}
        for position, level in enumerate(levels):
            found.setdefault(self.of(level), []).append(position)
        return found

    def folded_copy(self) -> FoldedNetwork:
        """Return a network of its own, with arbitrary weights and without rounding, on the CPU."""
        return FoldedNetwork(self._folded.graph, self.layers if self.quantizer.bias_correction else ())

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of the network and its images."""
        return self._folded.memory_format

    def level(self, level: LevelName) -> FoldedState:
        """Return a level's folded state, on the device."""
        return self._levels.get(level, lambda: self._load(level))

    def finetuned(self, name: str) -> FinetunedNetwork:
        """Return the weights of a fine-tuned candidate, on the device."""
        if self._finetuned_folder is None:
            raise UserError(f"expected a folder of fine-tuned weights, found none for {name!r}")
        path = finetuned_path(self._finetuned_folder, name)
        return self._finetuned.get(name, lambda: self._read_finetuned(path))

    def quantized(self, level: LevelName, layer: str, bits: int, finetuned: str = "") -> QuantizedTensor:
        """Return a layer's codes and quantization steps, before any BatchNorm is folded in."""
        if finetuned:
            return self.finetuned(finetuned).layers[layer]
        return self._quantized.get((level, layer, bits), lambda: self._quantize([level], layer, [bits])[0][0])

    def quantize_ahead(self, levels: Sequence[LevelName], layer: str, widths: Sequence[int]) -> None:
        """Quantize a layer of several levels to several numbers of bits at once: faster than one after the other."""
        wanted = [level for level in levels if any((level, layer, bits) not in self._quantized for bits in widths)]
        weights = len(widths) * self.level(levels[0]).weights[layer].numel() if wanted else 1
        together = max(1, _QUANTIZED_TOGETHER // weights)
        for first in range(0, len(wanted), together):
            some = wanted[first : first + together]
            for level, found in zip(some, self._quantize(some, layer, widths), strict=True):
                for bits, quantized in zip(widths, found, strict=True):
                    self._quantized.get((level, layer, bits), functools.partial(lambda made: made, quantized))

    def folded_scale(self, level: LevelName, layer: str, bits: int, finetuned: str = "") -> Tensor:
        """Return the scale by which a layer's codes are multiplied when the network runs, float32."""
        scale = self.level(level).scale(layer, self.quantized(level, layer, bits, finetuned).scale)
        return round_scales(scale) if self.half and len(scale) > 1 else scale

    @property
    def half(self) -> bool:
        """Whether the scales of quantized layers, if a layer has several, and their biases are float16."""
        return self.quantizer.scales == "float16"

    def half_bias(self, layer: str, bits: int, activation_bits: int) -> str | None:
        """Return the name of a layer's bias if it is rounded to float16, not to whole multiples of integer sums."""
        whole = activation_bits < FULL_ACTIVATION_BITS and self.quantizer.integer_biases
        return self.bias_key(layer) if self.half and bits != UNCOMPRESSED_BITS and not whole else None

    def bias_key(self, layer: str) -> str | None:
        """Return the name of a layer's bias in the state of the network; None: it has none of its own."""
        return self._folded.bias_keys.get(layer)

    def ranges(self, level: LevelName) -> dict[str, Range]:
        """Return layer name -> smallest and largest input of the layer in the calibration of a level."""
        if self.inputs is None:
            raise ValueError("expected inputs= for ranges of activations, found none")
        return {name: inputs.range for name, inputs in self.inputs.level(level).items()}

    def rounds_inputs(self, genotype: Genotype) -> bool:
        """Say whether the inputs of layers are rounded: to narrow activations, unless every layer is uncompressed."""
        return self.quantizer.rounds_inputs and any(bits != UNCOMPRESSED_BITS for bits in genotype.bits)

    def activation_bits(self, genotype: Genotype) -> dict[str, int]:
        """Return layer name -> bits of its inputs, 2..16, of layers that have weights; at 16 they are not rounded."""
        bits = dict.fromkeys(
            (layer.name for layer in self._folded.layers), self.quantizer.activation_bits or FULL_ACTIVATION_BITS
        )
        own = genotype.activation_bits
        return bits | dict(zip(self.layers, own, strict=True)) if own else bits

    def grids(self, genotype: Genotype) -> dict[str, ActivationGrid] | None:
        """Return layer name -> the grid of its inputs, of the layers whose inputs are rounded; None: none are.

        Raises:
            UserError: the calibration lacks a layer, or its smallest input is above its largest.
        """
        if not self.rounds_inputs(genotype):
            return None
        bits = self.activation_bits(genotype).items()
        return {layer: self.grid(genotype.level, layer, own) for layer, own in bits if own < FULL_ACTIVATION_BITS}

    def grid(self, level: LevelName, layer: str, bits: int) -> ActivationGrid:
        """Return the grid of a layer's inputs of so many bits, 2..15, in the range of a level's calibration.

        Raises:
            UserError: the calibration lacks the layer, or its smallest input is above its largest.
        """
        key = level, layer, bits
        if key not in self._grids:
            low, high = self.ranges(level).get(layer, (1.0, 0.0))
            require(low <= high, f"the smallest and the largest input of {layer} as its range", (low, high))
            self._grids[key] = ActivationGrid.of_range(bits, low, high)
        return self._grids[key]

    def input_noise(self, level: LevelName, layer: str, bits: int) -> float:
        """Return the noise that rounding adds to a layer's inputs, relative to them, 0..1: a ratio of mean squares.

        It is that of values spread evenly between two codes, a twelfth of the square of the step.
        """
        if bits == FULL_ACTIVATION_BITS:
            return 0.0
        signal = self._measured(level, layer).mean_square
        return min(1.0, self.grid(level, layer, bits).step ** 2 / 12 / signal) if signal else 0.0

    def rest(self, genotype: Genotype) -> dict[str, Tensor]:
        """Return a genotype's state without the layers' weights.

        Biases are corrected if the quantizer says so; under narrow activations they are those of integer arithmetic.
        """
        finetuned, level = genotype.finetuned, genotype.level
        rest = self.finetuned(finetuned).rest if finetuned else self.level(level).rest
        own, widths = {}, self.activation_bits(genotype)
        for layer, bits in zip(self.layers, genotype.bits, strict=True):
            key = self.bias_key(layer)
            if key is None or bits == UNCOMPRESSED_BITS:
                continue
            which = level, layer, bits, widths[layer]
            if finetuned:
                own[key] = self._stored_bias(rest[key], *which, finetuned)
            else:
                own[key] = self._biases.get(which, functools.partial(self._bias, rest[key], *which))
        return rest | own

    @torch.no_grad()
    def load(self, genotype: Genotype) -> nn.Module:
        """Copy a genotype's weights and grids into the shared folded network, in place, and return it."""
        folded = self.level(genotype.level)
        self._folded.set_rest(self.rest(genotype))
        if self._rounding is not None:
            self._rounding.use(self.grids(genotype))
        bits_of = dict(zip(self.layers, genotype.bits, strict=True))
        for layer in self._folded.layers:
            bits = bits_of.get(layer.name, UNCOMPRESSED_BITS)
            if bits == UNCOMPRESSED_BITS:
                weight = folded.full_precision(layer.name)
            else:
                which = genotype.level, layer.name, bits, genotype.finetuned
                weight = dequantize(self.quantized(*which).codes, self.folded_scale(*which))
            self._folded.set_weight(layer, weight)
        return self.network

    @torch.no_grad()
    def trainable(self, genotype: Genotype) -> tuple[nn.Module, dict[str, tuple[Tensor, QuantizedTensor]]]:
        """Return a copy of a genotype's network for fine-tuning, and its masks and quantized layers.

        Returns:
            The folded network with trainable biases, norms and compressed layers, whose weights are not rounded and
            have no BatchNorm folded in; and layer name -> mask (true where the weight remains; output channels first)
            and the genotype's codes and steps.
        """
        folded = self.level(genotype.level)
        self.load(genotype)
        masks = self.library.load_masks(genotype.level, self.library.load_state(genotype.level))
        layers = {}
        for layer, bits in zip(self.shapes.values(), genotype.bits, strict=True):
            mask = output_first(masks[layer.name], layer).to(self.device)
            quantized = self.quantized(genotype.level, layer.name, bits)
            layers[layer.name] = mask, quantized
            self._folded.set_weight(layer, weight_of_codes(folded.weights[layer.name], quantized))
        network = copy.deepcopy(self.network)
        fixed = {layer.weight_key for layer in self._folded.layers if layer.name not in self.shapes}
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name not in fixed)
        return network, layers

    def as_network(self, genotype: Genotype) -> FoldedNetwork:
        """Copy a genotype's weights into the shared folded network and return it with what it knows of its layers."""
        self.load(genotype)
        return self._folded

    def _read_finetuned(self, path: Path) -> FinetunedNetwork:
        found = read_finetuned(path, str(self.device))
        weights = {
            name: output_first(self.network.get_parameter(layer.weight_key), layer)
            for name, layer in self.shapes.items()
        }
        if not found.fits(weights, self.network.state_dict()):
            raise UserError(
                f"expected fine-tuned weights of the library's network in {path}, found other layers or shapes"
            )
        return found

    def _load(self, level: LevelName) -> FoldedState:
        state = self.library.load_state(level)
        wanted = self._folded.graph.state
        used = {name: tensor for name, tensor in state.items() if name in wanted}
        check_fit(used, wanted, self.library.manifest.network, self.library.path / self.library.record(level).file)
        return self._folded.fold(used).to(self.device)

    @torch.no_grad()
    def _quantize(self, levels: Sequence[LevelName], layer: str, widths: Sequence[int]) -> list[list[QuantizedTensor]]:
        """Return a layer's codes and steps of its own, at each level and for each number of bits."""
        quantizer, shape = self.quantizer, self.shapes[layer]
        weights = [self.level(level).weights[layer] for level in levels]
        method, per_channel = quantizer.method, quantizer.per_channel
        found = [
            {bits: quantize_symmetric(weight, bits, method=method, per_channel=per_channel) for bits in widths}
            for weight in weights
        ]
        learned = [bits for bits in widths if bits <= MOST_LEARNED_BITS and quantizer.rounding == "learned"]
        blocks = input_blocks(shape)
        if learned and blocks:
            centred = quantizer.bias_correction and layer in self._corrected
            starts = [[own[bits] for bits in learned] for own in found]
            products = [
                self._measured(level, layer, blocks).products(centred=centred).to(self.device) for level in levels
            ]
            better = learn_roundings(list(zip(weights, starts, products, strict=True)), groups=shape.groups)
            for own, those in zip(found, better, strict=True):
                own.update(zip(learned, those, strict=True))
        return [[own[bits] for bits in widths] for own in found]

    @torch.no_grad()
    def _bias(self, bias: Tensor, level: LevelName, layer: str, bits: int, activation_bits: int) -> Tensor:
        """Return the bias of a quantized layer, from its folded bias."""
        if self.quantizer.bias_correction:
            bias = self._corrected_bias(bias, level, layer, bits)
        return self._stored_bias(bias, level, layer, bits, activation_bits)

    def _corrected_bias(self, bias: Tensor, level: LevelName, layer: str, bits: int) -> Tensor:
        """Return the folded bias that gives the layer the mean output of its unquantized weights."""
        folded = self.level(level)
        weight = folded.weights[layer]
        groups = self.shapes[layer].groups
        mean_patch = self._measured(level, layer).mean_patch.reshape(groups, *weight.shape[1:])
        quantized = self.quantized(level, layer, bits).dequantize()
        error = mean_output_error(mean_patch, weight, quantized)
        factor = folded.factors.get(layer)
        return (bias.double() - (error if factor is None else error * factor.double())).to(bias.dtype)

    def _stored_bias(
        self, bias: Tensor, level: LevelName, layer: str, bits: int, activation_bits: int, finetuned: str = ""
    ) -> Tensor:
        """Return a bias as files hold it."""
        if self.half_bias(layer, bits, activation_bits):
            return round_bias(bias, layer)
        if activation_bits == FULL_ACTIVATION_BITS or not self.quantizer.integer_biases:
            return bias
        scale = self.folded_scale(level, layer, bits, finetuned)
        return integer_bias(bias, scale, self.grid(level, layer, activation_bits))

    def _measured(self, level: LevelName, layer: str, blocks: int = 0) -> LayerInputs:
        """Return the measured inputs of a layer, with their covariance in so many blocks if there are any.

        Raises:
            UserError: a statistic is missing, or is that of a layer of another shape.
        """
        if self.inputs is None:
            raise ValueError("expected inputs= for bias correction or learned rounding, found none")
        inputs = self.inputs.level(level).get(layer)
        groups, weight = self.shapes[layer].groups, self.level(level).weights[layer]
        wanted = {"mean input": (groups, *weight.shape[1:])}
        found: dict[str, Tensor | None] = {}
        if inputs is not None:
            found = {"mean input": inputs.mean_patch, "covariance of the inputs": inputs.covariance}
        if blocks:
            size = groups * weight[0].numel() // blocks
            wanted["covariance of the inputs"] = (blocks, size, size)
        for name, shape in wanted.items():
            values = found.get(name)
            fits_shape = values is not None and values.numel() == math.prod(shape)
            if values is None or not fits_shape or not bool(values.isfinite().all()):
                seen = "none" if values is None else "values that are not finite" if fits_shape else tuple(values.shape)
                raise UserError(
                    f"expected the {name} of {layer} of shape {shape} in the calibration {self.inputs.folder}, "
                    f"found {seen}: delete it, and search again"
                )
        return cast(LayerInputs, inputs)
