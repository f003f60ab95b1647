"""Toolchains that read the exported ONNX files, each in its own environment."""
