"""Stage I: train a network, then prune and fine-tune it level by level into a library."""
