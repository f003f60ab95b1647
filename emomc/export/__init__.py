"""Export of one network as a packed file, ONNX or a state dict, and verification of the exported file."""
