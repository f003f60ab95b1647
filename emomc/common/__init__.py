"""What every package may use and what knows nothing of networks: errors, files, user code, Pareto sets."""
