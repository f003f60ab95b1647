import heapq

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emomc.candidates.compressed_networks import CompressedNetworks
from emomc.common.errors import UserError
from emomc.compression.code_counts import count_codes
from emomc.compression.codings import decode, encode, stream_bits, stream_bytes
from emomc.compression.huffman_code import MAX_LENGTH, code_lengths, decoding_table, is_complete, reversed_codes
from emomc.compression.huffman_plan import NO_GAPS, plan_huffman
from emomc.compression.quantizers import Quantizer
from emomc.compression.streams import Stream
from emomc.library.network_sources import library_graph


def random_layer(seed, count, bits, density, spread):
    """Return codes that are normal, pruned at random, as those of trained layers are about."""
    rng = np.random.default_rng(seed)
    largest = 2 ** (bits - 1) - 1
    codes = np.clip(np.rint(rng.normal(size=count) * largest * spread), -largest, largest)
    codes *= rng.random(count) < density
    return codes.astype(np.int8 if bits <= 8 else np.int16)


def check(codes, bits):
    stream = encode(codes, bits, "huffman")
    assert len(stream.data) == stream_bytes(stream_bits(count_codes(codes), bits, "huffman"))
    np.testing.assert_array_equal(decode(stream, codes.size, bits), codes.ravel())
    return stream


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3000),
    st.integers(2, 16),
    st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1)),
    st.floats(0.001, 10),
)
@settings(max_examples=500, deadline=None)
@example(0, 1, 2, 1.0, 10.0)
@example(0, 100, 2, 0.0, 1.0)
@example(0, 3000, 16, 1.0, 0.3)
def test_the_counted_bits_are_those_of_the_stream(seed, count, bits, density, spread):
    check(random_layer(seed, count, bits, density, spread), bits)


@pytest.mark.slow
def test_the_counted_bits_are_those_of_the_stream_for_trained_layers(shared_library):
    networks = CompressedNetworks(shared_library, library_graph(shared_library), Quantizer(per_channel=True))
    modes = set()
    for level in shared_library.levels:
        for layer in networks.layers:
            for bits in range(2, 13):
                codes = networks.quantized(level, layer, bits).codes.numpy()
                modes.add(check(codes, bits).index_bits == NO_GAPS)
                shorter = stream_bits(codes, bits, "best")
                assert shorter <= stream_bits(codes, bits, "huffman")
    assert modes == {False, True}


def test_the_example_of_the_format():
    codes = np.array([0, 1, 0, 0, 0, 0, -1, 0, 0, 2, 1, 0, 0, 0, 0, -7, 0, 0], np.int8)
    plan = plan_huffman(count_codes(codes), 5)
    assert (plan.gap_bits, plan.split, plan.lengths.tolist(), plan.bits) == (1, 0, [1, 2, 0, 2], 57)
    table = "0000 00100000 1000 0100 0000 0100"
    entries = "11 0 0  0010 0 1  010 10 0  10 0 0  0010 11 01 1"
    stream = check(codes, 5)
    assert (stream.entries, stream.data) == (5, _bytes(table + entries))
    assert stream.data.hex(" ") == "40 10 02 32 a4 12 b4 01"


def _bytes(bits):
    """Return bits, the first one first, as a stream."""
    bits = bits.replace(" ", "")
    return int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")


def test_dense_layers_have_no_gaps_and_layers_of_zeros_no_bits():
    assert check(random_layer(0, 1000, 4, 1.0, 0.3), 4).index_bits == NO_GAPS
    assert check(np.zeros(1000, np.int8), 4) == Stream(b"", "huffman", 0)
    # One magnitude: a table, and a sign for each.
    one = np.full(1000, 5, np.int8)
    assert len(check(one, 4).data) == (12 + 4 * 6 + 1000 + 7) // 8
    # A nonzero code at the end of a long layer: 12 bits, lengths of 16 symbols, 20 bits of gap, 14 bits and a sign.
    far = np.zeros(1 << 20, np.int16)
    far[-1] = -32767
    assert len(check(far, 16).data) == 14


def test_gaps_longer_than_what_is_read_at_a_time():
    # Mostly dense, so that gaps have few bits in their remainder.
    codes = np.zeros(200_000, np.int8)
    codes[:100_000] = 1
    codes[-1] = -1
    for gap_bits in (0, 3):
        zeros = (100_000 - 1) >> gap_bits
        low = f"{(100_000 - 1) & (1 << gap_bits) - 1:0{gap_bits}b}"[::-1] if gap_bits else ""
        bits = "0000 10000000 0000" + ("1" + "0" * gap_bits + "0") * 100_000 + "0" * zeros + "1" + low + "1"
        np.testing.assert_array_equal(decode(Stream(_bytes(bits), "huffman", 100_001, gap_bits), 200_000, 4), codes)


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 10**9)), min_size=1, max_size=136))
@settings(max_examples=200, deadline=None)
def test_codes_are_the_shortest_there_are(counts):
    counts = np.array(counts)
    lengths = code_lengths(counts)
    used = counts[counts > 0].tolist()
    assert ((lengths > 0) == (counts > 0)).all() or len(used) < 2
    if len(used) < 2:
        assert not lengths.any()
        return
    assert is_complete(lengths)
    assert lengths.max() <= MAX_LENGTH
    shortest, depth = _huffman(used)
    if depth <= MAX_LENGTH:
        assert (lengths * counts).sum() == shortest
    # Each code is found by its own bits, whatever follows.
    table, codes = decoding_table(lengths), reversed_codes(lengths)
    for symbol in np.flatnonzero(lengths).tolist():
        assert (table[codes[symbol] :: 1 << lengths[symbol]] == symbol).all()


def _huffman(counts):
    """Return the bits of all symbols and the depth of a tree whose longest code is as short as it can be."""
    heap = [(count, 0) for count in counts]
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        (one, depth), (other, deeper) = heapq.heappop(heap), heapq.heappop(heap)
        total += one + other
        heapq.heappush(heap, (one + other, 1 + max(depth, deeper)))
    return total, heap[0][1]


def test_codes_are_at_most_15_bits_long():
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = code_lengths(np.array(fibonacci))
    assert lengths.max() <= MAX_LENGTH
    assert is_complete(lengths)


TABLE = "0000 01000000 1000 1000"  # split 0; two symbols of one bit: the values 0 and 1


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream(b"\0", "huffman", 0), "no bytes for a layer of zeros"),
        (Stream(b"", "huffman", 0, NO_GAPS), "no bytes for a layer of zeros"),
        (Stream(b"", "huffman", 1), "table of symbols"),
        (Stream(_bytes("0010 10000000 0000 1 0"), "huffman", 1, 29), "valid index bits"),
        (Stream(_bytes("1100 10000000 0000 1 0"), "huffman", 1), "table of symbols for 3 bits"),
        (Stream(_bytes("0000 00000000 0000 1 0"), "huffman", 1), "found 0 symbols"),
        (Stream(_bytes("0000 00100000 1000 0100"), "huffman", 1), "found 4 symbols"),
        (Stream(_bytes("0000 01000000 1000 0100 1 0 0"), "huffman", 1), "a complete code"),
        (Stream(_bytes("0000 01000000 1000 0000 1 0 0"), "huffman", 1), "a complete code"),
        (Stream(_bytes("0000 11000000 1000 1000 1000 1 0 0"), "huffman", 1), "a complete code"),
        (Stream(_bytes("0000 10000000 0000"), "huffman", 8, NO_GAPS), "another symbol than zero"),
        (Stream(_bytes(TABLE + "1 0 0"), "huffman", 1, NO_GAPS), "an entry for each of 8 weights"),
        (Stream(_bytes(TABLE + "1 0 0"), "huffman", 8), "8 entries in huffman, found a stream"),
        (Stream(_bytes(TABLE + "1 0 0 1"), "huffman", 2), "1 more entries in huffman"),
        (Stream(_bytes(TABLE + "0000"), "huffman", 1), "1 more entries in huffman"),
        (Stream(_bytes(TABLE + "1 0 0 1"), "huffman", 1), "the last entry at the end"),
        (Stream(_bytes(TABLE + "1 0 0") + b"\0", "huffman", 1), "the last entry at the end"),
        (Stream(_bytes(TABLE + "00000000 1 0 0"), "huffman", 1), "within a layer of 8"),
        (Stream(_bytes(TABLE + "1 0 0  0000000 1 0 0"), "huffman", 2), "within a layer of 8"),
        (Stream(_bytes(TABLE + "01 1111 0 0" + "0" * 30), "huffman", 1, 28), "within a layer of 8"),
        # Three bits hold codes of up to 3: values of up to 2.
        (Stream(_bytes("0000 11000000 0000 0000 0000 1 1 0"), "huffman", 1), "codes of 3 bits in -3..3"),
        (Stream(_bytes("0100 00100000 0000 0000 0000 0000 1 0"), "huffman", 1), "codes of 3 bits in -3..3"),
    ],
)
def test_streams_that_no_encoder_writes_are_refused(stream, message):
    with pytest.raises(UserError, match=message):
        decode(stream, 8, 3)
