import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emomc.common.errors import UserError
from emomc.compression.bit_packing import pack, unpack
from emomc.compression.code_counts import count_codes, csr_index_bits
from emomc.compression.codings import (
    CODING_CHOICES,
    CODINGS,
    best_coding,
    decode,
    encode,
    stream_bits,
    stream_bytes,
)
from emomc.compression.streams import Stream


def random_codes(seed, count, bits, density):
    rng = np.random.default_rng(seed)
    largest = (1 << (bits - 1)) - 1
    codes = rng.integers(-largest, largest + 1, count) * (rng.random(count) < density)
    return codes.astype(np.int8 if bits <= 8 else np.int16)


layers = st.builds(
    random_codes,
    st.integers(0, 2**32 - 1),
    st.one_of(st.integers(1, 200), st.integers(1, 100_000)),
    st.shared(st.integers(2, 16), key="bits"),
    st.one_of(st.sampled_from([0.0, 0.001, 0.01, 1.0]), st.floats(0, 1)),
)


@given(layers, st.shared(st.integers(2, 16), key="bits"), st.sampled_from(CODING_CHOICES))
@settings(max_examples=150, deadline=None)
def test_lengths_agree_with_the_encoders_and_decoding_gives_the_codes_back(codes, bits, coding):
    stream = encode(codes, bits, coding)
    expected = stream_bits(codes, bits, coding)
    entry_bits = CODINGS[stream.coding].entry_bits
    assert entry_bits is None or entry_bits((1, len(codes), 1), stream.entries, bits, stream.index_bits) == expected
    assert len(stream.data) == stream_bytes(expected)
    decoded = decode(stream, len(codes), bits)
    assert decoded.dtype == (np.int8 if bits <= 8 else np.int16)
    np.testing.assert_array_equal(decoded, codes)


@pytest.mark.parametrize(("density", "bits"), [(0.0, 2), (0.02, 3), (0.3, 4), (1.0, 9)])
def test_lengths_agree_on_a_million_weights(density, bits):
    codes = random_codes(1, 1_000_003, bits, density)
    for coding in CODINGS:
        stream = encode(codes, bits, coding)
        assert len(stream.data) == stream_bytes(stream_bits(codes, bits, coding))
        np.testing.assert_array_equal(decode(stream, len(codes), bits), codes)


@given(layers, st.shared(st.integers(2, 16), key="bits"))
@settings(max_examples=50, deadline=None)
def test_best_is_the_shortest_and_counts_are_enough(codes, bits):
    counts = count_codes(codes)
    lengths = {coding: stream_bits(counts, bits, coding) for coding in CODINGS}
    assert lengths == {coding: stream_bits(codes, bits, coding) for coding in CODINGS}
    assert stream_bits(codes, bits, "best") == min(lengths.values()) == lengths[best_coding(counts, bits)]


@given(layers, st.shared(st.integers(2, 16), key="bits"))
@settings(max_examples=50, deadline=None)
def test_the_index_width_is_the_best_there_is(codes, bits):
    def length(width):
        entries, zeros = 0, 0
        for code in codes[:3000].tolist():
            if code == 0:
                zeros += 1
                continue
            entries += zeros // 2**width + 1
            zeros = 0
        return entries * (bits + width)

    counts = count_codes(codes[:3000])
    assert length(csr_index_bits(counts, bits)) == min(length(width) for width in range(16))


def test_streams_by_hand():
    codes = np.array([0, 3, 0, 0, 0, 0, -1, 2], np.int8)
    # 3 bits in two's complement: 3 -> 011, -1 -> 111, 2 -> 010; the first bit is the lowest of the byte.
    assert encode(codes, 3, "bitmap").data == bytes([0b11000010, 0b10_111_011, 0b0])
    assert encode(codes, 3, "coo").data == _bits([(1, 3), (3, 3), (6, 3), (7, 3), (7, 3), (2, 3)])
    assert encode(codes, 3, "normal").data == _bits([(code & 7, 3) for code in codes.tolist()])
    # Gaps 1, 4, 0: at 2 index bits one filler, (2 + 3) 4 = 20 bits; at 3 none, (3 + 3) 3 = 18 bits; at 0 (all) 24 bits.
    assert csr_index_bits(count_codes(codes), 3) == 3
    assert encode(codes, 3, "csr").data == _bits([(1, 3), (3, 3), (4, 3), (7, 3), (0, 3), (2, 3)])
    # The bytes that docs/format.md works out.
    streams = {coding: encode(codes, 3, coding).data.hex(" ") for coding in ("csr", "coo", "bitmap")}
    assert streams == {"csr": "19 0f 01", "coo": "99 7f 01", "bitmap": "c2 bb 00"}
    with_filler = Stream(_bits([(1, 2), (3, 3), (3, 2), (0, 3), (0, 2), (7, 3), (0, 2), (2, 3)]), "csr", 4, 2)
    np.testing.assert_array_equal(decode(with_filler, 8, 3), codes)


def _bits(numbers):
    value = shift = 0
    for number, width in numbers:
        value |= number << shift
        shift += width
    return value.to_bytes((shift + 7) // 8, "little")


def test_formulas_of_the_paper_by_hand():
    weights, bits, density = np.array([1024.0, 100.0]), np.array([4.0, 3.0]), np.array([0.5, 0.25])
    bits_of = {
        name: coding.paper_bits(weights, bits, density).tolist()
        for name, coding in CODINGS.items()
        if coding.paper_bits
    }
    # log2 of 100 is 6.6.
    assert bits_of == {"normal": [4096, 300], "csr": [512 * 7, 25 * 6], "coo": [512 * 14, 25 * 10]}
    many = CODINGS["normal"].paper_bits(weights, bits, np.ones((5, 2)))
    assert many.tolist() == [[4096, 300]] * 5


def test_trailing_zeros_and_empty_layers_cost_nothing_in_csr_and_coo():
    zeros = np.zeros(1000, np.int8)
    assert [stream_bits(zeros, 4, coding) for coding in CODINGS] == [4000, 0, 0, 1000, 0, 0, 63]
    one = zeros.copy()
    one[0] = 1
    assert [stream_bits(one, 4, coding) for coding in CODINGS] == [4000, 4, 14, 1004, 18, 504, 127]
    assert stream_bits(np.array([5], np.int8), 4, "coo") == 4


def test_float_layers_are_plain_whatever_the_coding():
    weights = np.zeros(10, np.float32)
    assert {stream_bits(weights, 32, coding) for coding in CODING_CHOICES} == {320}


def test_fillers_follow_the_formula_for_random_masks():
    # A gap is longer than 2^r with probability q^(2^r), so csr takes N p (b + r) / (1 - q^(2^r)) bits:
    # 1.04 bits a weight at p = 0.05, b = 4, r = 3.
    density, bits, width = 0.05, 4, 3
    codes = (np.random.default_rng(0).random(1_000_000) < density).astype(np.int8)
    counts = count_codes(codes)
    measured = (counts.nonzeros + counts.overflows[width]) * (bits + width) / len(codes)
    assert measured == pytest.approx(density * (bits + width) / (1 - (1 - density) ** 2**width), rel=0.01)
    assert measured == pytest.approx(1.04, abs=0.01)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (Stream(b"", "zip", 0), "a coding of"),
        (Stream(bytes(3), "normal", 7), "entries of 8 weights"),
        (Stream(bytes(2), "normal", 8), "3 bytes, found 2"),
        (Stream(_bits([(4, 3)] * 8), "normal", 8), "codes of 3 bits"),
        (Stream(bytes(2), "bitmap", 1), "1 weights in a bitmap, found 0"),
        (Stream(_bits([(1, 8), (0, 3)]), "bitmap", 1), "found a zero"),
        (Stream(_bits([(1, 8), (1, 3), (1, 5)]), "bitmap", 1), "zeros after the last bit"),
        (Stream(_bits([(2, 3), (1, 3), (1, 3), (1, 3)]), "coo", 2, 3), "ascending order"),
        (Stream(_bits([(2, 3), (1, 3), (2, 3), (1, 3)]), "coo", 2, 3), "ascending order"),
        (Stream(_bits([(2, 3), (0, 3)]), "coo", 1, 3), "found a zero"),
        (Stream(_bits([(2, 4), (1, 3)]), "coo", 1, 4), "index bits"),
        (Stream(bytes(99), "coo", 9, 3), "entries of 8 weights"),
        (Stream(_bits([(7, 3), (1, 3), (0, 3), (1, 3)]), "csr", 2, 3), "within a layer of 8"),
        (Stream(_bits([(7, 3), (1, 3), (7, 3), (1, 3)]), "csr", 2, 3), "within a layer of 8"),
        (Stream(_bits([(2**31 - 1, 31), (1, 3)]), "csr", 1, 31), "within a layer of 8"),
        (Stream(_bits([(0, 40), (1, 3)]), "csr", 1, 40), "index bits"),
        (Stream(_bits([(0, 32), (1, 3)]), "csr", 1, 32), "index bits"),
        (Stream(_bits([(0, 1), (1, 3)] * 8), "normal", 8, 1), "index bits"),
        (Stream(_bits([(2, 2), (0, 3), (0, 2), (1, 3)]), "csr", 2, 2), "before each csr filler"),
        (Stream(_bits([(3, 2), (0, 3)]), "csr", 1, 2), "found a filler"),
    ],
)
def test_streams_that_no_encoder_writes_are_refused(stream, message):
    with pytest.raises(UserError, match=message):
        decode(stream, 8, 3)


@pytest.mark.parametrize(
    ("codes", "bits", "coding", "message"),
    [
        (np.array([2]), 2, "normal", "codes of 2 bits in -1..1"),
        (np.array([1]), 1, "normal", "2 to 16 bits"),
        (np.array([1]), 17, "normal", "2 to 16 bits"),
        (np.array([1]), 4, "zip", "a coding of"),
        (np.array([1.0]), 4, "csr", "integer codes"),
        (np.array([], np.int8), 4, "csr", "a layer of 1 to"),
    ],
)
def test_what_cannot_be_encoded_is_refused(codes, bits, coding, message):
    with pytest.raises(UserError, match=message):
        encode(codes, bits, coding)


def test_a_layer_without_weights_is_none():
    with pytest.raises(UserError, match="a layer of 1 to"):
        decode(Stream(b"", "csr", 0), 0, 2)


def test_of_codings_of_equal_length_the_one_that_is_decoded_with_the_least_effort_is_best():
    assert sorted(CODINGS, key=lambda name: CODINGS[name].effort) == [
        *("normal", "bitmap", "csr", "coo", "huffman", "nm", "block")
    ]
    assert sorted(coding.effort for coding in CODINGS.values()) == list(range(1, 1 + len(CODINGS)))
    found = set()
    for count in range(1, 20):
        for nonzeros in range(count + 1):
            codes = np.zeros(count, np.int8)
            codes[:nonzeros] = 1
            lengths = {name: stream_bits(codes, 2, name) for name in CODINGS}
            shortest = [name for name, length in lengths.items() if length == min(lengths.values())]
            best = best_coding(count_codes(codes), 2)
            assert best == min(shortest, key=lambda name: CODINGS[name].effort)
            found.add((*shortest, best))
    assert ("csr", "coo", "huffman", "nm", "csr") in found


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("count", [65_537, 2**20])
def test_a_wide_code_at_a_far_position(count, coding):
    codes = np.zeros(count, np.int16)
    codes[[2, -1]] = -32767, 32767
    np.testing.assert_array_equal(decode(encode(codes, 16, coding), count, 16), codes)


@pytest.mark.parametrize(("width", "kind"), [(1, "u1"), (8, "u1"), (9, "u2"), (16, "u2"), (17, "u4"), (33, "u8")])
def test_numbers_are_unpacked_into_the_smallest_type(width, kind):
    numbers = np.array([0, 1, 2**width - 1, 2 ** (width - 1)], np.uint64)
    unpacked = unpack(pack(numbers, width), 4, width, 0)
    assert unpacked.dtype == np.dtype(kind)
    np.testing.assert_array_equal(unpacked, numbers)


def test_a_layer_may_have_as_many_weights_as_allowed(monkeypatch):
    monkeypatch.setattr("emomc.compression.codings.MAX_WEIGHTS", 8)
    codes = np.ones(9, np.int8)
    assert len(decode(encode(codes[:8], 2, "csr"), 8, 2)) == 8
    with pytest.raises(UserError, match="1 to 8 weights, found 9"):
        encode(codes, 2, "csr")
    with pytest.raises(UserError, match="1 to 8 weights, found 9"):
        decode(Stream(b"", "csr", 0), 9, 2)


def test_a_declared_size_beyond_the_limit_is_refused_before_memory_is_taken():
    with pytest.raises(UserError, match="1 to 268435456 weights"):
        decode(Stream(b"", "csr", 0, 3), 1 << 60, 4)
