"""Stage II: evolve candidates, generation by generation, until their Pareto front stands."""
