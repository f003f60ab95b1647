"""The commands: parse, wire, run."""
