"""Shipped hardware descriptions, one YAML file each; see ``emomc.hardware.load_hardware``."""
