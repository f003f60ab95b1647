"""``emomc-export --format c``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from emomc.callbacks.search.front_writer import FrontWriter
from emomc.search.config import SearchConfig
from emomc.search.options import RunOptions
from emomc.search.run import run_search

NEEDS_COMPILER = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) on this machine")


@pytest.fixture
def export(library, run):
    config = SearchConfig(population_size=4, number_generations=2, activation_bits=8, coding="best")
    run_search(library, config, [FrontWriter()], run=RunOptions(name="s"))

    def export(output, *options):
        return run("export", "--run", library.path.parent, "--format", "c", "--output", output, *options)

    return export


@NEEDS_COMPILER
def test_a_source_and_a_header_that_give_the_promised_classes(export):
    ran = export("out/my-net.c", "--verify")
    assert ran.status == 0, ran
    assert "Read back: test accuracy" in ran.out
    assert "as the front says" in ran.out
    source, header = Path("out/my-net.c").read_text(), Path("out/my-net.h").read_text()
    assert f"out/my-net.c: {len(source):,} bytes" in ran.out
    assert source.startswith(header)
    assert "const float *my_net_run(void);" in header
    assert sorted(path.name for path in Path("out").iterdir()) == ["my-net.c", "my-net.h"]
    assert export("out/my-net.c", "--coding", "normal").status == 0
    assert Path("out/my-net.c").read_text() != source


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
