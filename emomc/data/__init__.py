"""Images: settings, datasets, augmentation, batches, and whole splits in memory."""
