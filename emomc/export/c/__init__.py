"""A compressed network as C99: from its graph to one header and one source."""
