"""Every shipped experiment is taken by both commands, and the reference's hold the reference's settings."""

import pytest
import yaml

from emomc.cli import pretrain, search
from emomc.cli.command import fields_of, shipped_configs
from emomc.data.config import DataConfig
from emomc.pretraining.config import PretrainingConfig
from emomc.search.config import SearchConfig

CONFIGS = {name: yaml.safe_load(text) for name, text in shipped_configs().items()}
REFERENCES = sorted(name for name in CONFIGS if name.endswith("_reference"))


def parsed(parser, section: dict):
    return parser.parse_object(section)


@pytest.mark.parametrize("name", CONFIGS)
def test_both_commands_take_it(name):
    config = CONFIGS[name]
    assert set(config) <= {"pretrain", "search", "export"}
    made = parsed(pretrain.build_parser(), config["pretrain"])
    preparation = PretrainingConfig(**fields_of(made, PretrainingConfig))
    data = DataConfig(**fields_of(made, DataConfig))
    wanted = parsed(search.build_parser(), config["search"])
    values = fields_of(wanted, SearchConfig)
    SearchConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    # The search looks where the preparation writes.
    output = made.output or str(pretrain.default_folder(preparation.network, data.dataset))
    assert wanted.library == f"{output}/library"


def test_every_pairing_has_its_reference():
    assert REFERENCES == [
        "lenet5_mnist_reference",
        "mobilenet_cifar10_reference",
        "resnet18_cifar10_reference",
        "vgg16_cifar10_reference",
    ]


@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_s_settings(name):
    # Source: the reference's function.py (arguments, optimizers, adjust_learning_rate) and EMOMC.py (NSGA2).
    made = parsed(pretrain.build_parser(), CONFIGS[name]["pretrain"])
    config = PretrainingConfig(**fields_of(made, PretrainingConfig))
    wanted = parsed(search.build_parser(), CONFIGS[name]["search"])
    adam = config.network in ("lenet5", "mobilenet")
    rate = 0.01 if adam else 0.05
    assert (config.optimizer, config.learning_rate) == (("adam" if adam else "sgd"), rate)
    assert config.weight_decay == (0.0 if adam else 0.0005)
    assert (config.schedule, config.pre_prune_schedule, config.criterion) == ("halving", "restart", "layerwise")
    assert config.pre_prune_learning_rate == pytest.approx(rate * 0.5 ** (299 // 30), rel=1e-4)
    epochs = config.pre_train_epochs + len(config.levels) * config.pre_prune_epochs
    assert (config.pre_train_epochs, config.levels, epochs) == (300, tuple(range(80, 19, -1)), 300 + 61 * 32)
    assert made.batch_size == 256
    assert made.augment == ("shift" if made.dataset == "cifar10" else "none")
    assert (wanted.population_size, wanted.number_generations, wanted.seed) == (20, 120, 1)
    assert (wanted.lowest_level, wanted.highest_level, wanted.quantizer) == (20, 80, "absmax")
    assert (wanted.coding, wanted.size_constraint, wanted.accounting) == ("csr", "10000", "paper")
