"""How models lie on the map: spectrum, clusters, agreement with metadata, alignment of several maps."""
