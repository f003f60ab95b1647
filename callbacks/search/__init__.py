"""Observers of a search, one class per file."""
