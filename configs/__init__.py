"""Shipped settings: one YAML file per experiment, with a section for each command, found by its bare name."""
