"""How torch and Lightning are run: devices, Trainers, seeds, determinism, interrupts, processes side by side."""
