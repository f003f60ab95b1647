"""Stage II: evolve candidates over generations and return their Pareto front."""
