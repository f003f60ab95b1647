"""The library of pruned networks on disk, and the network and data it was made from."""
