"""The work of ``emomc-search``."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

from jsonargparse import Namespace
from rich.console import Console

from emomc.callbacks.search.constraint_note import ConstraintNote
from emomc.callbacks.search.front_lines import FrontLines
from emomc.callbacks.search.front_writer import FrontWriter
from emomc.callbacks.search.rich_front_table import RichFrontTable
from emomc.callbacks.search.tensorboard_front_logger import TensorBoardFrontLogger
from emomc.candidates.objectives import known_costs
from emomc.cli.command import stdout_is_terminal
from emomc.common.errors import UserError, UserFact, UserNote, require
from emomc.common.files import write_text
from emomc.compression.widths import FULL_ACTIVATION_BITS
from emomc.fronts.document import front_document
from emomc.fronts.pick_rules import Pick, check_index, check_pick
from emomc.fronts.picks import pick_point
from emomc.fronts.report.terminal import FrontTable
from emomc.hardware.description import load_target
from emomc.hardware.layer_report import report_csv, report_table
from emomc.hardware.measured_hardware import MeasuredHardware
from emomc.library.data_sources import library_data
from emomc.library.library import Library
from emomc.library.network_sources import library_network
from emomc.library.task_sources import library_task
from emomc.runtime.launch import launched, make_fabric
from emomc.runtime.lightning_refusals import lightning_refusals
from emomc.runtime.notices import quiet_lightning
from emomc.runtime.process_group import process_group_left
from emomc.runtime.trainers import validation_trainer
from emomc.search.config import SearchConfig
from emomc.search.observer import SearchCallback
from emomc.search.options import RunOptions
from emomc.search.run import run_search, search_space
from emomc.search.state import Search


def search(arguments: Namespace, config: SearchConfig, options: RunOptions, pick: Pick) -> None:
    """Search a library; show and write the results.

    Args:
        arguments: the parsed command line.
        config: the settings that decide the front.
        options: how the search runs, without network, data and devices.
        pick: chooses the point to recommend.

    Raises:
        KeyboardInterrupt: Ctrl-C stopped the search; its front so far is written.
        ProcessLost: another process ended before all had started.
    """
    with quiet_lightning(), process_group_left():
        library = Library.open(arguments.library)
        _check_choices(arguments, library, config, options, pick)
        _tell_other_widths(config)
        fabric = make_fabric(arguments.accelerator, _devices(arguments.devices), arguments.num_nodes, default=1)
        with lightning_refusals():
            validation_trainer(fabric.device, config.precision)
        material = _material(library, arguments)
        with launched(fabric, arguments.worker_timeout):
            found = run_search(
                library,
                config,
                _observers(quiet=arguments.quiet),
                dataclasses.replace(
                    options,
                    **material,
                    dataset=arguments.dataset,
                    fabric=fabric,
                    check=lambda search: _check_budget(search, pick),
                ),
            )
        if fabric.is_global_zero:
            if not arguments.quiet:
                _show_result(found, pick)
            if arguments.layers is not None:
                _report_layers(found, arguments.layers, pick, quiet=arguments.quiet)
        if found.interrupted:
            raise KeyboardInterrupt


def _material(library: Library, arguments: Namespace) -> dict[str, Any]:
    """Return what of a search's options is a user's: the task, or the network and the data."""
    data = library_data(library, arguments.dataset, arguments.data_dir)
    if library.manifest.task is None:
        require(arguments.module is None, "no --module for a library of an image classifier", arguments.module)
        return {"network": library_network(library, arguments.network), "data": data}
    return {"task": library_task(library, data, arguments.module)}


def _check_choices(
    arguments: Namespace, library: Library, config: SearchConfig, options: RunOptions, pick: Pick
) -> None:
    """Check the choices of candidates before the search: it would ask for them at its end.

    Raises:
        UserError: no candidate of this search can have the index, or the points will lack a cost of the pick.
    """
    most = options.most_candidates(config, search_space(library, config).size)
    check_pick(pick, known_costs(load_target(config.hardware)), most)
    if arguments.layers not in (None, "pick"):
        check_index(int(arguments.layers), most, "--layers with an index")


def _tell_other_widths(config: SearchConfig) -> None:
    """Say where inputs of layers are evaluated with other bits than the costs are for."""
    evaluated, hardware = config.most_activation_bits, load_target(config.hardware)
    charged = hardware.precision.I
    if searched := ", ".join(map(str, config.layer_activation_bits)):
        fact = (
            f"The bits of each layer's activations are searched among {searched}; those of the uncompressed network "
            f"are charged for {evaluated} bits, but evaluated without rounding."
        )
        warnings.warn(fact, UserFact, stacklevel=2)
    elif evaluated < FULL_ACTIVATION_BITS:
        fact = (
            f"Activations have {evaluated} bits in evaluations and costs; those of the uncompressed network are "
            f"charged for {evaluated} bits, too, but evaluated without rounding."
        )
        warnings.warn(fact, UserFact, stacklevel=2)
    elif charged < FULL_ACTIVATION_BITS:
        note = (
            f"activations are charged for the {charged} bits of {hardware.name} and evaluated without rounding: "
            f"--activation_bits {charged} evaluates what is charged"
        )
        warnings.warn(note, UserNote, stacklevel=2)
    elif isinstance(hardware, MeasuredHardware) and (narrow := hardware.table.least_bits[1]) < charged:
        note = (
            f"activations count as the {charged} bits of {hardware.name}, so that nothing serves that it measured with "
            f"fewer: --activation_bits {narrow} rounds them"
        )
        warnings.warn(note, UserNote, stacklevel=2)


def _check_budget(search: Search, pick: Pick) -> None:
    """Check that a network of the search can be within the budget of a pick.

    Raises:
        UserError: the cheapest exceeds it.
    """
    energy = search.cost_model.columns.get("energy")
    bounds = {}
    for limit in pick.limits:
        column = energy if energy and limit.cost == "energy_mj" else limit.cost
        share = search.uncompressed[column] / 100 if limit.relative else 1.0
        bounds[column] = limit.value * share
    search.check_reachable(bounds, f"the pick {pick}")


def _observers(*, quiet: bool) -> list[SearchCallback]:
    observers: list[SearchCallback] = [FrontWriter(), TensorBoardFrontLogger()]
    if not quiet:
        observers += [ConstraintNote(), RichFrontTable() if stdout_is_terminal() else FrontLines()]
    return observers


def _show_result(search: Search, pick: Pick) -> None:
    console = Console(width=None if stdout_is_terminal() else 100, highlight=False, markup=False)
    console.print(FrontTable(search))
    front, unmet = search.front, None
    if not search.finished and not search.interrupted:
        console.print("Stopped before the last generation; the same command goes on from here.")
    if front and front[0].violation:
        console.print("No candidate meets the constraints; the points above exceed them least.")
    elif front:
        try:
            console.print(pick_point(pick, front_document(search)).reason)
        except UserError as error:
            unmet = error
    if search.finetuned:
        console.print(_finetuning_result(search))
    tally = search.tally
    console.print(
        f"{tally.asked} candidates asked for, {len(search.candidates)} distinct: {tally.measured} measured "
        f"({search.rejected} of them stopped early, {tally.images} images), {tally.reused} answered from logs."
    )
    console.print(f"Files: {search.folder}", soft_wrap=True)
    if unmet is not None:
        raise unmet


def _report_layers(search: Search, which: str, pick: Pick, *, quiet: bool) -> None:
    """Show and write the costs of each layer of one candidate."""
    index = pick_point(pick, front_document(search)).index if which == "pick" else int(which)
    candidate = next((candidate for candidate in search.candidates if candidate.index == index), None)
    if candidate is None:
        raise UserError(f"expected the index of one of {len(search.candidates)} candidates, found {index}")
    report = search.cost_model.report(candidate.genotype)
    path = search.files.layers_table(index)
    write_text(path, report_csv(report))
    if not quiet:
        console = Console(width=None if stdout_is_terminal() else 140, highlight=False, markup=False)
        console.print(f"Candidate {index}, layer by layer ({path}):", soft_wrap=True)
        console.print(report_table(report))


def _finetuning_result(search: Search) -> str:
    """Summarise the fine-tuning; front.json has the points before and after."""
    kept = [point for point in search.finetuned if point.kept]
    gains = sorted(100 * (point.after.accuracy - point.before.accuracy) for point in search.finetuned)
    metric = search.metric
    name = "validation accuracy" if metric.percent else f"quality (percent of the range of {metric.name})"
    return (
        f"Fine-tuned {len(search.finetuned)} points, {len(kept)} kept; {name} {gains[0]:+.2f} to "
        f"{gains[-1]:+.2f} points, median {gains[len(gains) // 2]:+.2f}."
    )


def _devices(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else text
