"""Networks: built-in ones, those of users, their weights, the shapes of their layers, and folding of BatchNorm."""
