"""What compiles the sources that are written; known without importing torch."""

COMPILER = "cc"
STANDARD = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
"""Options that every source must pass."""
