import sys
from pathlib import Path

import pytest

from emomc.common.errors import UserError
from emomc.common.user_code import load_object, names_user_code, source_sha256


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("a.py:B", True),
        ("a/b.py:C", True),
        ("a.b:c", True),
        ("digits", False),
        ("imagefolder:a/b", False),
        (":A", False),
    ],
)
def test_form_of_a_name(spec, expected):
    assert names_user_code(spec) is expected


def test_a_file_leaves_the_import_path_as_it_was(tmp_path: Path):
    (tmp_path / "sibling_of_it.py").write_text("VALUE = 4\n")
    (tmp_path / "it.py").write_text("from sibling_of_it import VALUE\n")
    before = list(sys.path)
    assert load_object(f"{tmp_path}/it.py:VALUE", "a number") == 4
    assert sys.path == before
    assert "it" not in sys.modules


def test_an_edited_file_is_run_again(tmp_path: Path):
    file = tmp_path / "it.py"
    file.write_text("VALUE = []\n")
    first = load_object(f"{file}:VALUE", "a list")
    assert load_object(f"{file}:VALUE", "a list") is first
    file.write_text("VALUE = [1]\n")
    assert load_object(f"{file}:VALUE", "a list") == [1]


def test_a_module_of_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "module_of_this_test.py").write_text("class Thing:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    assert load_object("module_of_this_test:Thing", "a class").__name__ == "Thing"
    assert source_sha256("module_of_this_test:Thing", "a class") == source_sha256(
        f"{tmp_path}/module_of_this_test.py:Thing", "a class"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere/at_all.py:A", "in the file nowhere/at_all.py, found no such file"),
        ("no_such_module_at_all:A", "found that importing it fails: No module named 'no_such_module_at_all'"),
        ("no colon", "as path/to/file.py:Class or package.module:Class, found 'no colon'"),
    ],
)
def test_what_is_missing_is_named(spec, message):
    with pytest.raises(UserError, match=message):
        load_object(spec, "a network")


def test_a_file_that_fails_is_no_module_afterwards(tmp_path: Path):
    file = tmp_path / "broken.py"
    file.write_text("raise RuntimeError('first\\nsecond')\n")
    for _ in range(2):
        with pytest.raises(UserError, match=r"running it fails: first$"):
            load_object(f"{file}:A", "a network")
