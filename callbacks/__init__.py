"""Callbacks of a Trainer (``trainer``) and observers of a search (``search``)."""
