"""Compression of weights and activations: pruning, quantization, bias correction, codings."""
