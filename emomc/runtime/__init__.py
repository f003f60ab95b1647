"""Running torch and Lightning: devices, Trainers, seeds, determinism, interrupts, parallel processes."""
