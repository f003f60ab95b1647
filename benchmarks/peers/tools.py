"""The tools that are compared, by name: what is installed for each, and what each is given.

To add one, add an entry to ``PEERS`` and its function to a script ``scripts/run_ENVIRONMENT.py``.
"""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"

PACKAGES: dict[str, tuple[str, ...]] = {
    "mct": ("model-compression-toolkit==2.6.1",),
    "aimet": ("aimet-torch==2.42.0",),
    "modelopt": ("nvidia-modelopt==0.47.0", "requests==2.34.2", "huggingface_hub==2.4.0"),
    "nncf": ("nncf==3.4.0", "torchao==0.18.0"),
    "inc": ("neural-compressor-pt==3.10",),
    "torchao": ("torchao==0.18.0",),
    "onnxruntime": ("onnxruntime==1.32.0", "onnx==1.23.2", "onnxscript==0.7.2"),
    "torch_pruning": ("torch-pruning==1.6.1", "torchao==0.18.0"),
    "optuna": ("optuna==5.0.0",),
}
"""Environment -> its packages, the tool first. All else, torch too, is that of the environment that runs this."""

CALIBRATION = "512 training images"
LABELLED = "512 labelled training images"
VALIDATED = "512 training images, validation images"
TRAINING = "all training images"


@dataclasses.dataclass(frozen=True)
class Peer:
    """One way of one tool."""

    name: str
    title: str
    environment: str
    """Key of ``PACKAGES``."""
    function: str
    """Of the script, which a user of the tool writes."""
    given: str
    """Images that it has while it compresses; all choose among their results by the validation images."""
    needs_library: bool = False
    """Whether it searches our library of levels."""
    minutes: float = 60.0
    """Limit of its time for a network."""

    @property
    def script(self) -> Path:
        """What runs in its environment."""
        return SCRIPTS / f"run_{self.environment}.py"

    @property
    def version(self) -> str:
        """The tool's package and version."""
        return PACKAGES[self.environment][0].replace("==", " ")

    @property
    def lines(self) -> int:
        """Lines of code that a user of the tool writes."""
        return users_lines(self.script.read_text(encoding="utf-8"), self.function)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("mct", "MCT, mixed precision", "mct", "mixed_precision", CALIBRATION),
        Peer("mct_gptq", "MCT, mixed precision and GPTQ", "mct", "gptq", CALIBRATION),
        Peer("aimet", "AIMET, uniform bits", "aimet", "uniform", CALIBRATION),
        Peer("aimet_adaround", "AIMET, AdaRound", "aimet", "adaround", CALIBRATION),
        Peer("aimet_mixed", "AIMET, mixed precision", "aimet", "mixed_precision", VALIDATED),
        Peer("modelopt", "ModelOpt, auto_quantize", "modelopt", "auto_quantize", LABELLED),
        Peer("nncf", "NNCF, quantize", "nncf", "quantize", CALIBRATION),
        Peer("inc", "Neural Compressor, static", "inc", "static", CALIBRATION),
        Peer("torchao", "torchao, PT2E", "torchao", "quantize", CALIBRATION),
        Peer("onnxruntime", "onnxruntime, static", "onnxruntime", "static", CALIBRATION),
        Peer("torch_pruning", "Torch-Pruning, then int8", "torch_pruning", "pruned", TRAINING),
        Peer("optuna_nsga2", "Optuna NSGA-II on our library", "optuna", "nsga2", VALIDATED, needs_library=True),
        Peer("optuna_tpe", "Optuna TPE on our library", "optuna", "tpe", VALIDATED, needs_library=True),
    )
}
"""Name -> peer."""


@dataclasses.dataclass(frozen=True)
class OwnWay:
    """One way of using EMOMC itself."""

    title: str
    commands: tuple[str, ...]
    """What a user writes for one trade."""


OURS, QUANTIZED = "emomc", "emomc_quantized"
OUR_WAYS = {
    OURS: OwnWay(
        "**EMOMC**",
        (
            "emomc-pretrain --config NETWORK --weights DENSE --output RUN",
            "emomc-search --library RUN/library --objectives accuracy size --coding best",
        ),
    ),
    QUANTIZED: OwnWay(
        "**EMOMC**, all weights kept",
        (
            "emomc-pretrain --config NETWORK --weights DENSE --output RUN --pre_prune_upper_bound 100 "
            "--pre_prune_lower_bound 100",
            "emomc-search --library RUN/library --objectives accuracy size --coding best --number_generations 10",
        ),
    ),
}
"""Name -> way: with levels, which are trained, and with the dense network alone, whose bits are searched."""

SHARED = ("problem", "pt2e", "benchmarks.peers.candidates")
"""Modules of a script whose imports no user writes."""


def users_lines(source: str, function: str) -> int:
    """Return how many lines of code a function of a script takes, with what of the script it uses.

    Blank lines, comments and docstrings do not count; imports of what the script shares with the other peers' neither.
    """
    tree = ast.parse(source)
    parts = {part.name: part for part in tree.body if isinstance(part, (ast.FunctionDef, ast.ClassDef))}
    pending, used = [function], set[str]()
    while pending:
        name = pending.pop()
        if name not in used:
            used.add(name)
            names = {node.id for node in ast.walk(parts[name]) if isinstance(node, ast.Name)}
            pending += sorted(names & {*parts})
    imported = [part for part in tree.body if isinstance(part, (ast.Import, ast.ImportFrom))]
    own = [part for part in imported if getattr(part, "module", None) not in SHARED]
    lines = source.splitlines()
    counted: set[int] = set()
    for part in [*own, *(parts[name] for name in used)]:
        counted.update(range(part.lineno, (part.end_lineno or part.lineno) + 1))
        first = part.body[0] if isinstance(part, (ast.FunctionDef, ast.ClassDef)) else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            counted.difference_update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    texts = [lines[number - 1].strip() for number in counted]
    return sum(bool(text) and not text.startswith("#") for text in texts)
