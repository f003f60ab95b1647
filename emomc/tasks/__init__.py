"""A user's own task: the LightningModule to train, the network inside it, and the metric that it logs."""
