"""Shipping one network: packed file, ONNX or state dict, and the proof that it runs as the search said."""
