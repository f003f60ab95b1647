"""Shipped hardware descriptions, one YAML file each; see ``emomc.hardware.description.load_hardware``."""
