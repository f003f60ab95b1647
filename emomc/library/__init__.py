"""The library of pruned networks on disk, and what it is made of: its network and its data."""
