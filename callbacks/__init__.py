"""Lightning callbacks, on two floors: ``trainer`` for any Trainer, ``search`` for those that observe a search."""
