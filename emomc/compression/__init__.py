"""Compressing weights and activations: pruning, quantization, bias correction, codings. Pure functions."""
