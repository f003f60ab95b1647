"""Callbacks of a Lightning Trainer, one class a file."""
