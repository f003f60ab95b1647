"""Images in files."""

from __future__ import annotations

import os
import struct
import threading
import time
import zlib

import pytest
from PIL import Image

from emomc.common.errors import UserError
from emomc.data.images import in_threads, is_readable, read_header


def test_results_are_in_the_order_of_the_items_in_one_thread_and_in_several():
    items = list(range(1000))
    assert in_threads(lambda item: item * item, items) == [item * item for item in items]
    few = items[:3]
    assert in_threads(lambda item: item + 1, few) == [1, 2, 3]
    assert in_threads(str, []) == []


def test_items_that_wait_are_shared_by_threads_and_those_that_hold_the_global_lock_are_not():
    def where(work):
        def done(item):
            work()
            return threading.get_ident()

        return in_threads(done, range(600)).count(threading.get_ident())

    # Both ways are tried on some. Other programs may disturb a trial.
    assert any(where(lambda: sum(range(5000))) > 400 for _ in range(9))
    assert any(where(lambda: time.sleep(0.002)) < 200 for _ in range(9))


def png(width, height):
    """A PNG that says it has that size, with hardly a pixel."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


BROKEN = [b"P6\n3 x\n255\n", b"", b"GIF89a" + b"\xff" * 40, b"PF\n2 2\n1\n"]


@pytest.mark.parametrize("content", [png(50_000, 50_000), png(10_000, 10_000), *BROKEN])
def test_whatever_a_decoder_throws_is_that_images_error(tmp_path, content):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    assert not is_readable(path)


def test_a_bomb_is_named(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(50_000, 50_000))
    with pytest.raises(UserError, match=r"in .*bomb.png, found a file that cannot be decoded: .*pixels"):
        read_header(path)


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    with pytest.raises(UserError, match="found no regular file"):
        read_header(path)
    assert not is_readable(path)


def test_a_good_image_is_readable(tmp_path):
    path = tmp_path / "good.png"
    Image.new("RGB", (4, 5)).save(path)
    assert is_readable(path)
    assert read_header(path) == (3, 5, 4)
