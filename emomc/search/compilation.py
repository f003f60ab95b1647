"""Whether the candidates of a search run through a compiled graph."""

from __future__ import annotations

import warnings

import torch
from lightning_fabric import Fabric
from torch import nn

from emomc.candidates.cost_model import uncompressed_genotype
from emomc.common.errors import UserError, UserNote, first_line
from emomc.data.held import HeldImages
from emomc.networks.equivalence import TOLERANCE, deviation
from emomc.runtime.compilation import CompiledNetwork
from emomc.runtime.notices import silent_logging
from emomc.runtime.trainers import validation_trainer
from emomc.search.state import Search

# A search that multiplies fewer times takes about as long as compiling its network, or less: about a minute.
_WORTH_COMPILING = 2e12
# In arithmetic of 16 bits, a compiled graph rounds at other places.
_NARROW_TOLERANCE = 0.05


def candidates_network(search: Search, images: HeldImages, fabric: Fabric) -> nn.Module:
    """Return what runs the candidates of a search: their shared network, or a ``CompiledNetwork`` of it.

    Args:
        search: its setting ``compile`` decides.
        images: to validate on.
        fabric: the processes of the search; the first compiles for all that share its disk.

    Raises:
        UserError: the network shall be compiled and cannot be.
    """
    network = search.cost_model.networks.network
    if not _is_wanted(search, len(images), fabric.device):
        return network
    compiled = CompiledNetwork(network, search.library.manifest.evaluation_batch_size)
    problem = fabric.broadcast(_problem(search, compiled, images) if fabric.is_global_zero else "")
    if not problem:
        # The others find what the first compiled; without it, they would count otherwise.
        if not fabric.is_global_zero and (own := _problem(search, compiled, images)):
            raise UserError(f"expected the network to compile as in the first process, found: {own}")
        return compiled
    if search.config.compile == "always":
        raise UserError(f"expected a network that torch can compile, found: {problem}; see --compile")
    if fabric.is_global_zero:
        note = f"the candidates' network is not compiled, which would be faster: {problem}"
        warnings.warn(note, UserNote, stacklevel=2)
    return network


def _is_wanted(search: Search, images: int, device: torch.device) -> bool:
    mode, batch_size = search.config.compile, search.library.manifest.evaluation_batch_size
    if mode == "always" and images < batch_size:
        raise UserError(
            f"expected a whole batch of {batch_size} images to compile for, found {images} validation images: "
            f"lower emomc-pretrain --evaluation_batch_size, or leave --compile out"
        )
    macs = sum(layer.macs for layer in search.library.manifest.layers)
    pays = macs * images * search.config.most_candidates >= _WORTH_COMPILING and images >= batch_size
    return mode == "always" or (mode == "auto" and device.type == "cpu" and pays)


@torch.inference_mode()
def _problem(search: Search, compiled: CompiledNetwork, images: HeldImages) -> str:
    """Compile a network, and compare its scores with those that it gives otherwise; return what is wrong, or nothing.

    Runs one batch of the dense network under the arithmetic of the search, and one with narrow activations if the
    search has them: that is another graph.
    """
    networks, config = search.cost_model.networks, search.config
    batch = images.floats(0, compiled.batch_size).to(networks.device)
    batch = batch.contiguous(memory_format=networks.memory_format)
    trainer = validation_trainer(networks.device, config.precision)
    allowed = TOLERANCE if "32" in config.precision else _NARROW_TOLERANCE
    genotypes = [uncompressed_genotype(search.library)]
    if config.quantization.rounds_inputs:
        # Levels of channels have networks of their own, which are not compiled.
        whole = [level for level in search.space.levels if networks.of(level) is networks]
        genotypes += [search.space.uniform(level, config.max_bits) for level in whole[-1:]]
    for genotype in genotypes:
        networks.load(genotype)
        with silent_logging(), trainer.precision_plugin.val_step_context():
            expected = compiled.network(batch)
            try:
                found = compiled(batch)
            # Whatever a compiler raises: the search can do without.
            except Exception as error:
                return f"torch could not compile it ({first_line(error)})"
        difference = deviation(found.float(), expected.float())
        if difference > allowed:
            return f"compiled, it gives other scores, by {difference:.1e} of the largest"
    return ""
