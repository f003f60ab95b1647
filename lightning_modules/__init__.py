"""The parts of the training stack: modules that train, prune and evaluate, and the data they run on."""
