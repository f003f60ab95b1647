"""The log, read by TensorBoard's own reader."""

from __future__ import annotations

import copy
import dataclasses

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from emomc.callbacks.search.tensorboard_front_logger import TensorBoardFrontLogger
from emomc.common.run_folder import SearchFolder
from emomc.fronts.document import front_document
from emomc.fronts.picks import pick_point


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    return accumulator.Reload()


@pytest.fixture
def logger():
    return TensorBoardFrontLogger(figure_every=2)


def test_bits_of_inputs_have_a_histogram_where_they_are_searched(finished, replay, logger):
    finished.space = dataclasses.replace(finished.space, activation_bits=(4, 8, 16))
    finished.candidates = [
        dataclasses.replace(one, genotype=dataclasses.replace(one.genotype, activation_bits=(4, 8, 8, 16, 4)))
        for one in finished.candidates
    ]
    replay(finished, [logger])
    inputs = read(finished.files.tensorboard).Histograms("front/activation_bits")[-1].histogram_value
    assert [count for count in inputs.bucket if count] == [2 * inputs.num / 5, 2 * inputs.num / 5, inputs.num / 5]
    assert (inputs.min, inputs.max) == (4, 16)


def test_scalars_figures_and_histograms(finished, replay, logger):
    replay(finished, [logger])
    events = read(finished.folder / "tensorboard")
    for tag, values in {
        "front/hypervolume": [entry.hypervolume for entry in finished.history[:3]],
        "front/size": [entry.front_size for entry in finished.history[:3]],
        "front/best_accuracy": [entry.best_accuracy for entry in finished.history[:3]],
    }.items():
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [1, 2, 3]
        assert [scalar.value for scalar in scalars] == pytest.approx(values)
    assert len(events.Scalars("search/evaluations_per_second")) == 3
    images = events.Images("front")
    # The first, every second, and the last.
    assert [image.step for image in images] == [1, 2, 3]
    assert images[0].encoded_image_string.startswith(b"\x89PNG")
    bits = events.Histograms("front/bits")[-1].histogram_value
    assert bits.num == len(finished.front) * len(finished.space.layers)
    assert (bits.min, bits.max) == (
        min(min(point.genotype.bits) for point in finished.front),
        max(max(point.genotype.bits) for point in finished.front),
    )
    levels = events.Histograms("front/levels_percent")[-1].histogram_value
    assert levels.num == len(finished.front)


def test_settings_are_hyperparameters_with_the_final_metrics(finished, replay, logger):
    replay(finished, [logger])
    events = read(finished.folder / "tensorboard")
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    settings = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert settings["population_size"].number_value == finished.config.population_size
    assert settings["dataflow"].string_value == "xy"
    assert settings["seed"].number_value == 0
    last = finished.statistics
    assert events.Scalars("result/hypervolume")[-1].value == pytest.approx(last.hypervolume)
    assert events.Scalars("result/front_size")[-1].value == last.front_size
    assert settings["objectives"].string_value == "accuracy, energy"
    assert settings["network"].string_value == "lenet5"
    best = finished.front[0]
    assert events.Scalars("result/test_accuracy_of_best")[-1].value == pytest.approx(best.test.accuracy)
    picked = pick_point("budget:energy_mj=10%", front_document(finished))
    tenth = events.Scalars("result/accuracy_for_a_tenth_of_energy")[-1].value
    assert tenth == pytest.approx(finished.front[picked.position].accuracy)


def test_searches_can_be_compared(finished, replay):
    """What TensorBoard's HPARAMS tab joins runs by: the same names of settings and metrics in each."""
    found = []
    for seed in (0, 1):
        own = copy.copy(finished)
        own.files = SearchFolder(finished.folder / str(seed))
        own.folder.mkdir()
        own.config = dataclasses.replace(finished.config, seed=seed)
        replay(own, [TensorBoardFrontLogger()])
        metadata = read(own.folder / "tensorboard").summary_metadata
        parts = {
            name: plugin_data_pb2.HParamsPluginData.FromString(metadata[f"_hparams_/{name}"].plugin_data.content)
            for name in ("experiment", "session_start_info")
        }
        experiment = parts["experiment"].experiment
        metrics = [info.name.tag for info in experiment.metric_infos]
        found.append(([info.name for info in experiment.hparam_infos], metrics))
        assert parts["session_start_info"].session_start_info.hparams["seed"].number_value == seed
    assert found[0] == found[1]
    assert {"seed", "objectives", "hardware"} <= set(found[0][0])
    assert {"result/hypervolume", "result/best_accuracy"} <= set(found[0][1])


def test_the_log_stays_small(finished, replay):
    replay(finished, [TensorBoardFrontLogger(figure_every=1)])
    assert sum(file.stat().st_size for file in (finished.folder / "tensorboard").iterdir()) < 300_000


def test_a_search_that_is_run_again_replaces_its_log(finished, replay):
    replay(finished, [TensorBoardFrontLogger()])
    replay(finished, [TensorBoardFrontLogger()])
    assert [scalar.step for scalar in read(finished.folder / "tensorboard").Scalars("front/size")] == [1, 2, 3]


def test_nothing_can_be_logged_before_the_search(finished, logger):
    with pytest.raises(RuntimeError, match="expected on_search_start"):
        logger.on_generation_end(finished)
