from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers.sizes import StoredLayer, network_bytes


def test_a_small_network_by_hand() -> None:
    # All 100 weights: 100 x 4 bits = 50 bytes, less than 100 + 90 x 4 bits; 5 scales and 5 biases: 40 bytes.
    dense = StoredLayer(weights=100, kept=90, bits=4, biases=5, scales=5)
    assert dense.bytes == 50 + 40
    # 100 + 10 x 8 = 180 bits = 23 bytes instead of 100; a scale, 2 biases and a zero point: 13 bytes.
    sparse = StoredLayer(weights=100, kept=10, bits=8, biases=2, scales=1, zero_points=1)
    assert sparse.bytes == 23 + 13
    # Float weights: 3 x 4 bytes and a bias.
    floats = StoredLayer(weights=3, kept=3, bits=32, biases=1)
    assert floats.bytes == 12 + 4
    # Three grids of activations: a scale of 4 bytes and a zero point of 1 each.
    assert network_bytes([dense, sparse, floats], grids=3) == 90 + 36 + 16 + 15


@given(st.integers(1, 5000), st.floats(0, 1), st.integers(1, 31))
def test_more_bits_or_more_weights_never_take_fewer_bytes(weights: int, share: float, bits: int) -> None:
    kept = int(share * weights)
    layer = StoredLayer(weights, kept, bits, biases=1, scales=1)
    assert layer.bytes <= StoredLayer(weights, kept, bits + 1, biases=1, scales=1).bytes
    assert layer.bytes <= StoredLayer(weights, min(weights, kept + 1), bits, biases=1, scales=1).bytes
    assert layer.code_bits <= weights * bits
