"""Observers of a search, one class a file."""
