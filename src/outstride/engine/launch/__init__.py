"""Contractions on CPU tensors: plan, kernel and packed weights bound into calls."""
