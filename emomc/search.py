"""The evolutionary loop: which networks of a library trade accuracy against cost best."""

from __future__ import annotations

import bisect
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from emomc.activations import FULL_BITS
from emomc.calibration import FOLDER as CALIBRATION
from emomc.calibration import calibrate
from emomc.compressed import CompressedNetworks, Quantizer
from emomc.costing import CostModel, uncompressed_genotype
from emomc.determinism import deterministic_algorithms
from emomc.errors import UserError
from emomc.evaluation import CandidateEvaluator, Evaluation, tensor_digest
from emomc.evaluation_log import LOG, EvaluationLog
from emomc.evolution import Evolution
from emomc.files import folder_lock, read_json, remove_leftovers, write_json
from emomc.finetuning import Finetuning, finetune_front
from emomc.genotype import Genotype, SearchSpace
from emomc.hardware import load_hardware
from emomc.image_order import load_image_order
from emomc.interrupt import deferred_interrupt
from emomc.library import Library
from emomc.lightning_modules.data import DataConfig, build_data, load_split, names_users_data
from emomc.networks import build_network
from emomc.quiet import quiet_lightning
from emomc.search_callback import SearchCallback
from emomc.search_config import SearchConfig
from emomc.search_state import Candidate, Search
from emomc.tuned import FOLDER as TUNED
from emomc.user_code import names_user_code
from emomc.versions import versions

SETTINGS = "config.json"


def run_search(
    library: Library | Path | str,
    config: SearchConfig,
    callbacks: Sequence[SearchCallback] = (),
    *,
    name: str = "default",
    network: nn.Module | None = None,
    data: pl.LightningDataModule | None = None,
    fabric: Fabric | None = None,
    early_rejection: bool = True,
    max_minutes: float | None = None,
    finetuning: Finetuning | None = None,
    deterministic: bool = False,
    overwrite: bool = False,
) -> Search:
    """Search a library for the networks that trade accuracy against cost best.

    A search that was stopped goes on where it was: it runs again from its seed, and what the logs of this library's
    searches hold is not measured again. Ctrl-C ends it after the candidate at hand, with the front so far.

    Args:
        library: the library or its path.
        config: what is searched.
        callbacks: who watches.
        name: of the search; it lives in ``search/NAME`` beside the library.
        network: the library's network, where it is not one of the project's own.
        data: the data the library was made on, where its manifest does not lead to it.
        fabric: the devices that share the candidates; one, chosen by Lightning, if None. The front does not depend on
            how many there are.
        early_rejection: stop evaluating candidates that can no longer matter; the front is the same without.
        max_minutes: stop after so much time, as Ctrl-C does; the first process's clock decides for all.
        finetuning: how to tune the points of the final front, if at all; those that pay join it.
        deterministic: same bits each time on a GPU too; on a CPU they are the same without.
        overwrite: begin anew where another search of that name was.

    Returns:
        The search at its end: its ``front``, and every candidate.

    Raises:
        UserError: the library, the data or a setting does not fit.
    """
    if name in ("", ".", "..") or Path(name).name != name:
        raise UserError(f"expected a name for a folder, found {name!r}")
    if max_minutes is not None and not 0 < max_minutes < math.inf:
        raise UserError(f"expected a max_time above 0 minutes, found {max_minutes}")
    library = library if isinstance(library, Library) else Library.open(library)
    fabric = fabric or Fabric(accelerator="auto", devices=1)
    hardware = load_hardware(config.hardware)
    network = network or build_own_network(library)
    quantizer = Quantizer(config.quantizer, config.per_channel, config.bias_correction)
    data = data or build_own_data(library)
    space = _space(library, config)
    # A damaged level is found now, not when the search comes to it.
    for percent in space.levels:
        library.check_file(percent)
    narrow = config.activation_bits < FULL_BITS
    calibrated = narrow or config.bias_correction
    with deterministic_algorithms(deterministic):
        inputs = calibrate(library, network, data, fabric, space.levels) if calibrated else None
    folder = library.path.parent / "search" / name
    networks = CompressedNetworks(
        library,
        network,
        quantizer,
        device=fabric.device,
        inputs=inputs,
        tuned_folder=folder / TUNED,
        activation_bits=config.activation_bits,
    )
    cost_model = CostModel(
        networks,
        hardware,
        dataflow=config.dataflow,
        coding=config.coding,
        accounting=config.accounting,
        activation_bits=config.activation_bits if narrow else None,
    )
    search = Search(library, config, folder, space, cost_model)
    search.inputs = inputs
    observers = callbacks if fabric.is_global_zero else ()
    images, labels = load_split(data, "validation")
    with (
        quiet_lightning(),
        deterministic_algorithms(deterministic),
        _search_folder(search, fabric, overwrite=overwrite),
    ):
        order = load_image_order(library, network, images, labels, fabric)
        evaluator = _evaluator(networks, images[order], labels[order], config)
        conditions = _conditions(evaluator, config, images[order], labels[order])
        if deterministic:
            conditions["deterministic"] = True
        log = EvaluationLog(
            search.folder / LOG,
            library,
            conditions,
            versions(),
            others=sorted(search.folder.parent.glob(f"*/{LOG}")),
            write=fabric.is_global_zero,
        )
        with log, deferred_interrupt() as interrupted:
            deadline = time.monotonic() + 60 * max_minutes if max_minutes and fabric.is_global_zero else math.inf

            def stopped() -> bool:
                return interrupted() or time.monotonic() > deadline

            loop = _Loop(search, evaluator, log, observers, fabric, stopped, early_rejection=early_rejection)
            _tell(observers, "on_search_start", search)
            search.finished = loop.run()
            if finetuning and search.finished:
                search.finished = finetune_front(search, evaluator, data, finetuning, conditions, fabric, loop.stop)
            loop.test(_evaluator(networks, *load_split(data, "test"), config))
            search.interrupted = interrupted()
            _tell(observers, "on_search_end", search)
        fabric.barrier()
    return search


def build_own_network(library: Library) -> nn.Module:
    """Return the network of a library, if it is one of the project's own.

    Raises:
        UserError: it is a user's, whose code runs only when the user names it.
    """
    manifest = library.manifest
    if names_user_code(manifest.network):
        raise UserError(f"expected --network {manifest.network}, whose code made this library, found no --network")
    return build_network(
        manifest.network,
        in_channels=manifest.input_shape[0],
        num_classes=manifest.num_classes,
        network_args=manifest.network_args,
    )


def build_own_data(library: Library) -> pl.LightningDataModule:
    """Return the data of a library, if it is one of the project's own datasets.

    Raises:
        UserError: it is a user's, whose code runs only when the user names it.
    """
    config = DataConfig.from_dict(library.manifest.data)
    if names_users_data(config.dataset):
        raise UserError(f"expected --dataset {config.dataset}, whose code gives the images, found no --dataset")
    return build_data(config)


@dataclasses.dataclass(frozen=True)
class _Job:
    """One run of a candidate over images."""

    genotype: Genotype
    begun: Evaluation | None
    """What an earlier run already saw."""
    needed: int
    """Images it must classify rightly to matter; the run ends as soon as it cannot."""


class _Loop:
    """Moves a search from generation to generation.

    Every process of a search runs the same loop and comes to the same decisions; they share the forward passes.
    """

    def __init__(
        self,
        search: Search,
        evaluator: CandidateEvaluator,
        log: EvaluationLog,
        observers: Sequence[SearchCallback],
        fabric: Fabric,
        stopped: Callable[[], bool],
        *,
        early_rejection: bool,
    ) -> None:
        config = search.config
        self.search = search
        self.evaluator = evaluator
        self.log = log
        self.observers = observers
        self.fabric = fabric
        self.stopped = stopped
        self.hypervolumes: list[float] = []
        self.evolution = Evolution(
            search.space, config.evolution, losses=len(config.objectives), constraints=len(search.bounds)
        )
        # Where survival does not follow from dominance alone, every candidate is seen by all images.
        self.early_rejection = early_rejection and self.evolution.ranks_by_dominance

    def run(self) -> bool:
        """Evolve to the end, or to Ctrl-C; say whether it was the end."""
        search = self.search
        while (genotypes := self.evolution.ask()) is not None:
            search.begin_generation()
            search.tally.asked += len(genotypes)
            candidates = search.candidates_of(genotypes)
            if not self._measure(candidates):
                return False
            self.evolution.tell(search.losses(candidates), search.violations(candidates))
            _tell(self.observers, "on_generation_end", search)
            if self._on_plateau():
                break
        # Where nothing met the constraints, those that come closest are measured: better than an empty hand.
        if search.front:
            return True
        closest = search.least_violating()
        self._recall(closest)
        return self._evaluate(closest, self._need_everything)

    def test(self, evaluator: CandidateEvaluator) -> None:
        """Run the uncompressed network and the front over the test images."""
        front = self.search.front
        genotypes = [uncompressed_genotype(self.search.library), *(candidate.genotype for candidate in front)]
        world = self.fabric.world_size
        jobs = [_Job(genotype, None, 0) for genotype in genotypes]
        results = [
            result
            for first in range(0, len(jobs), world)
            for result in self._share(jobs[first : first + world], evaluator)
        ]
        self.search.baseline_test = results[0]
        for candidate, result in zip(front, results[1:], strict=True):
            candidate.test = result

    def _on_plateau(self) -> bool:
        """Say whether the hypervolume has stood still for as long as the search is patient."""
        patience = self.search.config.patience
        self.hypervolumes.append(self.search.hypervolume)
        return patience is not None and self.hypervolumes[-1] <= max(self.hypervolumes[:-patience], default=-1.0)

    def _measure(self, candidates: Sequence[Candidate]) -> bool:
        """Find the accuracies that decide who survives; False if interrupted.

        Whoever could survive, judged by the most its accuracy can be, is run until it could not any more or has seen
        all images; that is repeated until nobody unfinished could. ``Evolution.contenders`` says why the survivors are
        then those of a search that runs everyone to the end.
        """
        feasible = [candidate for candidate in dict.fromkeys(candidates) if not candidate.violation]
        self._recall(feasible)
        if not self.early_rejection:
            return self._evaluate(feasible, self._need_everything)
        # A few at a time: what is next depends on what is known alone, so an interrupted search goes on the same way.
        while contenders := self._unfinished_contenders(candidates)[: self.fabric.world_size]:
            if not self._evaluate(contenders, lambda contender: self._need_to_survive(contender, feasible)):
                return False
        return True

    def _recall(self, candidates: Sequence[Candidate]) -> None:
        """Give candidates what the log knows of them."""
        for candidate in candidates:
            if candidate.evaluation is None and (known := self.log.get(candidate.genotype)) is not None:
                candidate.evaluation = known
                self.search.tally.reused += 1
                _tell(self.observers, "on_candidate_end", self.search, candidate)

    def _unfinished_contenders(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return who could survive but has images left to see, those that have seen none first.

        The more of a generation is known, the sooner another of it shows that it does not survive.
        """
        rows = self.evolution.contenders(self.search.losses(candidates), self.search.violations(candidates))
        contenders = dict.fromkeys(candidates[row] for row in rows)
        unfinished = [candidate for candidate in contenders if not candidate.measured]
        return sorted(unfinished, key=lambda candidate: candidate.evaluation is not None)

    def _need_to_survive(self, candidate: Candidate, generation: Sequence[Candidate]) -> int:
        """Return how many images a contender must get right to be one, as far as its generation is known by now.

        That only decides when the next look is due. One that falls short by what is known, but is a contender by what
        is not, sees one more block.
        """
        known = [other for other in generation if other is not candidate and other.evaluation is not None]
        losses = self.search.losses([*known, candidate])
        violations = self.search.violations([*known, candidate])
        images = self.evaluator.images

        def contends(correct: int) -> bool:
            losses[-1, 0] = 1 - correct / images
            return len(known) in self.evolution.contenders(losses, violations)

        needed = bisect.bisect_left(range(images), True, key=contends)
        return needed if candidate.evaluation is None else min(needed, candidate.evaluation.most_correct)

    @staticmethod
    def _need_everything(candidate: Candidate) -> int:
        return 0

    def _evaluate(self, candidates: Sequence[Candidate], needed: Callable[[Candidate], int]) -> bool:
        """Run the unfinished candidates over images they have not seen; False if interrupted."""
        unfinished = [candidate for candidate in candidates if not candidate.measured]
        world = self.fabric.world_size
        for first in range(0, len(unfinished), world):
            if self.stop():
                return False
            some = unfinished[first : first + world]
            jobs = [_Job(candidate.genotype, candidate.evaluation, needed(candidate)) for candidate in some]
            results = self._share(jobs, self.evaluator)
            for candidate, job, result in zip(some, jobs, results, strict=True):
                candidate.evaluation = result
                self.log.append(candidate.genotype, result)
                self.search.tally.measured += job.begun is None
                self.search.tally.images += result.seen - (job.begun.seen if job.begun else 0)
                _tell(self.observers, "on_candidate_end", self.search, candidate)
        return True

    def _share(self, jobs: Sequence[_Job], evaluator: CandidateEvaluator) -> list[Evaluation]:
        """Do one job on each process, at most as many as there are, and give every process all results."""
        fabric = self.fabric
        result = torch.zeros(3, dtype=torch.int64, device=fabric.device)
        failure = ""
        if fabric.global_rank < len(jobs):
            job = jobs[fabric.global_rank]
            try:
                own = evaluator.evaluate(job.genotype, begun=job.begun, needed=job.needed)
                result[:] = torch.tensor([own.correct, own.seen, own.images])
            except UserError as error:
                if fabric.world_size == 1:
                    raise
                # The others wait for this process's result: tell them before giving up.
                failure, result[:] = str(error), -1
        gathered = cast(Tensor, fabric.all_gather(result)).reshape(-1, 3).tolist()
        if any(row[2] < 0 for row in gathered):
            raise UserError(failure or "expected finite class scores, found others on another device")
        return [Evaluation(*row) for row in gathered[: len(jobs)]]

    def stop(self) -> bool:
        """Say whether any process saw Ctrl-C, or the first one that time is up; all of them say the same."""
        flag = torch.tensor(int(self.stopped()), device=self.fabric.device)
        return bool(cast(Tensor, self.fabric.all_gather(flag)).any())


def _space(library: Library, config: SearchConfig) -> SearchSpace:
    levels = [percent for percent in library.percents if config.lowest_level <= percent <= config.highest_level]
    if not levels:
        raise UserError(
            f"expected levels of {config.lowest_level}..{config.highest_level} % among those of the library, "
            f"found {', '.join(map(str, library.percents))}"
        )
    layers = tuple(layer.name for layer in library.manifest.compressed_layers)
    return SearchSpace(tuple(sorted(levels)), layers, config.min_bits, config.max_bits)


def _evaluator(
    networks: CompressedNetworks, images: Tensor, labels: Tensor, config: SearchConfig
) -> CandidateEvaluator:
    batch_size = networks.library.manifest.evaluation_batch_size
    return CandidateEvaluator(networks, images, labels, batch_size=batch_size, precision=config.precision)


def _conditions(evaluator: CandidateEvaluator, config: SearchConfig, images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return what an evaluation depends on besides the level's weights and the bits."""
    return {
        "images": tensor_digest(images, labels),
        "quantizer": dataclasses.asdict(evaluator.networks.quantizer),
        "calibration": evaluator.networks.inputs.digest if evaluator.networks.inputs else None,
        "activation_bits": config.activation_bits,
        "precision": evaluator.precision,
        "memory_format": "channels_last",
        "batch_size": evaluator.batch_size,
        "device": evaluator.networks.device.type,
    }


@contextmanager
def _search_folder(search: Search, fabric: Fabric, *, overwrite: bool) -> Iterator[None]:
    """Hold the search's folder; refuse one that holds another search."""
    if not fabric.is_global_zero:
        fabric.barrier()
        yield
        return
    with folder_lock(search.folder):
        library = search.library.path
        for folder in (search.folder, library, library.parent / CALIBRATION):
            remove_leftovers(folder)
        settings = json.loads(json.dumps(dataclasses.asdict(search.config)))
        if overwrite:
            for file in search.folder.iterdir():
                if file.is_file() and file.name != ".lock":
                    file.unlink()
        path = search.folder / SETTINGS
        if path.exists():
            _refuse_other_settings(path, settings)
        else:
            write_json(path, settings)
        fabric.barrier()
        yield


def _refuse_other_settings(path: Path, settings: dict[str, Any]) -> None:
    found = read_json(path, "the settings of a search")
    if not isinstance(found, dict):
        raise UserError(f"expected the settings of a search at {path}, found a {type(found).__name__}")
    for key in sorted({*found, *settings}):
        if found.get(key) != settings.get(key):
            raise UserError(
                f"expected a search with {key} = {settings.get(key)!r} in {path.parent}, "
                f"found one with {found.get(key)!r}: take another --name, or --overwrite"
            )


def _tell(observers: Sequence[SearchCallback], event: str, *arguments: Any) -> None:
    for observer in observers:
        getattr(observer, event)(*arguments)
