"""The networks: the built-in ones, those of users, their weights, their layers, and the folding of BatchNorm."""
