"""Evolutionary multi-objective compression of convolutional networks for edge accelerators."""
