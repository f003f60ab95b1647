"""Atomic writing of files, and locking of folders."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emomc.common.errors import UserError
from emomc.common.files import (
    atomic_write,
    existing_file,
    folder_lock,
    read_bytes,
    read_json,
    remove_leftovers,
    sha256_of_file,
    shared_lock,
    write_json,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestWholeFile:
    def test_appears_when_the_block_ends(self, tmp_path):
        path = tmp_path / "deep" / "er" / "file.bin"
        with atomic_write(path) as partial:
            partial.write_bytes(b"whole")
            assert not path.exists()
            assert partial.parent == path.parent
        assert path.read_bytes() == b"whole"
        assert names(path.parent) == ["file.bin"]

    def test_an_error_leaves_the_old_content_and_nothing_else(self, tmp_path):
        path = tmp_path / "file.txt"
        write_text(path, "old")

        def fail():
            with atomic_write(path) as partial:
                partial.write_text("half")
                raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            fail()
        assert path.read_text() == "old"
        assert names(tmp_path) == ["file.txt"]

    def test_a_killed_writer_leaves_the_old_content(self, tmp_path):
        path = tmp_path / "file.txt"
        write_text(path, "old")
        script = (
            "import os, pathlib, sys\n"
            "from emomc.common.files import atomic_write\n"
            "with atomic_write(pathlib.Path(sys.argv[1])) as partial:\n"
            "    partial.write_text('half')\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
        assert done.returncode == -9
        assert path.read_text() == "old"
        write_text(path, "new")
        assert path.read_text() == "new"


class TestLeftovers:
    def test_of_dead_writers_go_and_those_of_living_ones_stay(self, tmp_path):
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        (tmp_path / "deep").mkdir()
        mine, odd = f".a.json.{os.getpid()}.partial", ".a.json.x.partial"
        for name in (f".a.json.{dead.pid}.partial", mine, odd, "a.partial", "a.json"):
            (tmp_path / "deep" / name).write_text("half")
        remove_leftovers(tmp_path)
        assert names(tmp_path / "deep") == sorted([mine, odd, "a.json", "a.partial"])


def test_a_file_below_a_file(tmp_path):
    (tmp_path / "file").write_text("old")
    for name in ("file/a", "file/a/b"):
        with pytest.raises(UserError, match=r"expected to write .*, found: (Not a directory|File exists)"):
            write_text(tmp_path / name, "new")
    assert names(tmp_path) == ["file"]


class TestText:
    def test_bytes_are_the_text_as_it_is(self, tmp_path):
        write_text(tmp_path / "a.csv", "één\r\nzwei\n")
        assert (tmp_path / "a.csv").read_bytes() == "één\r\nzwei\n".encode()

    @pytest.mark.parametrize("value", [{"a": [1, 2.5, None, "ü"]}, [], "text", 0.1 + 0.2])
    def test_json_comes_back(self, tmp_path, value):
        write_json(tmp_path / "a.json", value)
        assert read_json(tmp_path / "a.json", "a test") == value
        assert (tmp_path / "a.json").read_bytes().endswith(b"\n")

    @pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
    def test_numbers_that_json_lacks_are_refused(self, tmp_path, number):
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "a.json", {"a": number})
        assert names(tmp_path) == []

    @pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"nope"])
    def test_what_is_no_json_is_one_line(self, tmp_path, content):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(UserError, match=r"expected a manifest at .*a\.json, found a file that cannot be") as error:
            read_json(tmp_path / "a.json", "a manifest")
        assert "\n" not in str(error.value)

    def test_missing_files(self, tmp_path):
        with pytest.raises(UserError, match=r"expected a manifest at .*, found no such file"):
            read_json(tmp_path / "a.json", "a manifest")
        with pytest.raises(UserError, match=r"expected weights at .*, found no such file"):
            existing_file(tmp_path, "weights")
        (tmp_path / "here").touch()
        assert existing_file(tmp_path / "here", "weights") == tmp_path / "here"


def test_checksum_of_a_file_of_several_blocks(tmp_path):
    content = os.urandom(3 << 20) + b"tail"
    (tmp_path / "a").write_bytes(content)
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


class TestLock:
    def test_another_process_is_refused_and_the_holder_named(self, tmp_path):
        script = (
            "import pathlib, sys\n"
            "from emomc.common.errors import UserError\n"
            "from emomc.common.files import folder_lock\n"
            "try:\n"
            "    with folder_lock(pathlib.Path(sys.argv[1])):\n"
            "        print('entered')\n"
            "except UserError as error:\n"
            "    print(error)\n"
        )

        def other():
            return subprocess.run(
                [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
            ).stdout.strip()

        with folder_lock(tmp_path):
            assert other() == f"expected {tmp_path} to be free, found it in use by process {os.getpid()}"
        assert other() == "entered"

    def test_ends_with_an_error_in_the_block(self, tmp_path):
        with pytest.raises(RuntimeError), folder_lock(tmp_path):
            raise RuntimeError
        with folder_lock(tmp_path / "new"):
            assert (tmp_path / "new").is_dir()
        with folder_lock(tmp_path):
            assert json.loads((tmp_path / ".lock").read_text()) == os.getpid()

    def test_a_link_is_not_emptied(self, tmp_path):
        other = tmp_path / "other"
        other.write_text("kept")
        (tmp_path / ".lock").symlink_to(other)
        with pytest.raises(UserError, match="expected to write"), folder_lock(tmp_path):
            raise AssertionError("entered")
        assert other.read_text() == "kept"


class TestSharedLock:
    def test_many_share_it_or_one_has_it_alone(self, tmp_path):
        path = tmp_path / "lock"

        def is_refused(*, exclusive):
            try:
                with shared_lock(path, exclusive=exclusive, holder="a search"):
                    return False
            except UserError as error:
                return "to be free, found it in use by a search" in str(error)

        with shared_lock(path, exclusive=False, holder="x"), shared_lock(path, exclusive=False, holder="x"):
            assert is_refused(exclusive=True)
            assert not is_refused(exclusive=False)
        with shared_lock(path, exclusive=True, holder="x"):
            assert is_refused(exclusive=True)
            assert is_refused(exclusive=False)
        assert not is_refused(exclusive=True)


class TestNotAFile:
    @pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
    def test_is_never_replaced(self, tmp_path, kind):
        path = tmp_path / "there"
        {"pipe": os.mkfifo, "folder": os.mkdir, "link": lambda path: path.symlink_to("/dev/null")}[kind](path)
        with pytest.raises(UserError, match="found something else there"), atomic_write(path) as partial:
            partial.write_text("no")
        assert names(tmp_path) == ["there"]
        assert not path.is_file()

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(UserError, match=r"expected a thing at .*pipe, found no regular file"):
            read_bytes(tmp_path / "pipe", "a thing")

    def test_a_device_without_an_end_is_not_read(self):
        with pytest.raises(UserError, match="expected a thing at /dev/zero, found no regular file"):
            read_json(Path("/dev/zero"), "a thing")

    def test_a_file_that_is_too_large(self, tmp_path):
        (tmp_path / "file").write_bytes(b"12345")
        assert read_bytes(tmp_path / "file", "a thing", most_bytes=5) == b"12345"
        with pytest.raises(UserError, match=r"expected a thing of at most 4 bytes at .*, found 5"):
            read_bytes(tmp_path / "file", "a thing", most_bytes=4)
