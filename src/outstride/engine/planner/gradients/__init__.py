"""Plans of weight gradients: by the direct chain, by short algorithms, by dot products."""
