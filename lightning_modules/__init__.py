"""LightningModules that train, prune, fine-tune and evaluate networks, and the LightningDataModule of their images."""
