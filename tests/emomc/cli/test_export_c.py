"""``emomc-export --format c``."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


def search(library, activation_bits, **settings):
    """Make a front with inputs of layers of so many bits."""
    small = {"population_size": 4, "number_generations": 2, "coding": "best"}
    config = SearchConfig(**{**small, **settings}, activation_bits=activation_bits)
    run_search(library, config, [FrontWriter()], run=RunOptions(name="s"))


@pytest.fixture(scope="module")
def searched_with_8_bits(copy_to, tmp_path_factory):
    """The folder of a run; tests read it and never change it."""
    library = copy_to(tmp_path_factory.mktemp("bytes") / "run")
    search(library, 8)
    return library.path.parent


@pytest.fixture
def export(searched_with_8_bits, run):
    """Export a point of it."""
    return functools.partial(run, "export", "--run", searched_with_8_bits, "--format", "c", "--output")


@NEEDS_COMPILER
def test_a_source_and_a_header_that_give_the_promised_classes(export):
    ran = export("out/my-net.c", "--verify")
    assert ran.status == 0, ran
    assert "Read back: test accuracy" in ran.out
    assert "as the front says" in ran.out
    source, header = Path("out/my-net.c").read_text(), Path("out/my-net.h").read_text()
    assert f"out/my-net.c: {len(source):,} bytes" in ran.out
    assert "out/my-net.c: arithmetic int8, " in ran.out
    assert source.startswith(header)
    assert "const int32_t *my_net_run(void);" in header
    assert sorted(path.name for path in Path("out").iterdir()) == ["my-net.c", "my-net.h"]
    assert export("out/my-net.c", "--coding", "normal").status == 0
    assert Path("out/my-net.c").read_text() != source
    ran = export("out/my-net.c", "--c_arithmetic", "float", "--verify")
    assert ran.status == 0, ran
    assert "out/my-net.c: arithmetic float, " in ran.out
    assert "const float *my_net_run(void);" in Path("out/my-net.h").read_text()


def test_without_a_compiler_it_is_written_and_said_to_be_unchecked(export, monkeypatch):
    monkeypatch.setenv("PATH", "")
    ran = export("net.c")
    assert ran.status == 0, ran
    assert Path("net.c").is_file()
    assert "scores of the file were not checked: expected a C compiler (cc) to run the source, found none" in ran.out
    ran = export("other.c", "--verify")
    assert ran.status == 2
    assert ran.err.strip().endswith("expected a C compiler (cc) to run the source, found none")
    assert not Path("other.c").exists()


def test_the_output_is_a_source(export):
    for output in ("net", "net.h", "net.emomc"):
        ran = export(output)
        assert ran.status == 2
        assert "expected --output with a file NAME.c" in ran.err
        assert not Path(output).exists()


def test_int8_needs_inputs_of_at_most_8_bits(library, run):
    search(library, 9, max_bits=4, rounding="nearest")
    export = functools.partial(run, "export", "--run", library.path.parent, "--format", "c", "--output")
    ran = export("net.c", "--c_arithmetic", "int8")
    assert ran.status == 2
    assert "for the arithmetic int8 (emomc-search --activation_bits 8), found " in ran.err
    assert ran.err.strip().endswith("with inputs of 9 bits")
    assert len(ran.err.strip().splitlines()) == 1
    assert not Path("net.c").exists()
    ran = export("net.c")
    assert ran.status == 0, ran
    assert "net.c: arithmetic float, " in ran.out


def test_the_arithmetic_is_that_of_a_source(export):
    ran = export("net.onnx", "--format", "onnx", "--c_arithmetic", "int8")
    assert ran.status == 2
    assert "expected --c_arithmetic with the format c alone, found onnx" in ran.err
