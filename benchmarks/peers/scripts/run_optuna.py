"""Optuna over the project's own evaluation: its NSGA-II and its TPE choose a level of our library and the bits of each
layer.

Its documentation: "Multi-objective optimization with Optuna": a study of two directions, ``NSGAIISampler``, its default
for them, and ``TPESampler(multivariate=True)``. Library, rounding, cost model and evaluation are ours; activations are
floats.
"""

import sys
from pathlib import Path

import optuna
from problem import Compressed, Layer, Problem, run
from torch import Tensor

# The benchmarks are not installed: this finds them in the root of the checkout.
sys.path.append(str(Path(__file__).parents[3]))

from benchmarks.peers.candidates import Candidates
from emomc.candidates.genotype import Genotype
from emomc.compression.quantization import dequantize

Found = tuple[Candidates, list[Genotype]]


def nsga2(problem: Problem, trials: int) -> Found:
    return search(problem, optuna.samplers.NSGAIISampler(seed=problem.about["seed"]), trials)


def tpe(problem: Problem, trials: int) -> Found:
    return search(problem, optuna.samplers.TPESampler(multivariate=True, seed=problem.about["seed"]), trials)


def search(problem: Problem, sampler: optuna.samplers.BaseSampler, trials: int) -> Found:
    candidates = Candidates(Path(problem.about["library"]), problem.about["data_dir"])

    def genotype(trial: optuna.trial.BaseTrial) -> Genotype:
        level = candidates.levels[trial.suggest_int("level", 0, len(candidates.levels) - 1)]
        return Genotype(level, tuple(trial.suggest_int(layer, 2, 12) for layer in candidates.layers))

    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    study.optimize(lambda trial: candidates.losses(genotype(trial).level, genotype(trial).bits), n_trials=trials)
    return candidates, [genotype(optuna.trial.FixedTrial(trial.params)) for trial in study.best_trials]


def read(problem: Problem, found: Found) -> list[Compressed]:
    candidates, genotypes = found
    return [compressed(candidates, genotype) for genotype in dict.fromkeys(genotypes)]


def compressed(candidates: Candidates, genotype: Genotype) -> Compressed:
    networks, layers = candidates.networks, {}
    for name, bits in zip(networks.layers, genotype.bits, strict=True):
        scale = networks.folded_scale(genotype.level, name, bits)
        weights = dequantize(networks.quantized(genotype.level, name, bits).codes, scale)
        layers[name] = Layer(weights, bits, scale.numel(), groups=networks.shapes[name].groups)

    def network(images: Tensor) -> Tensor:
        scores: Tensor = networks.load(genotype)(images)
        return scores

    size_bytes = int(candidates.cost_model.costs([genotype])["size_bytes"].item())
    return Compressed(network, layers, None, 0, size_bytes, f"level {genotype.level} %")


TRIALS = [{"trials": 200}]

optuna.logging.set_verbosity(optuna.logging.ERROR)
run([nsga2, tpe], read, {"nsga2": TRIALS, "tpe": TRIALS})
