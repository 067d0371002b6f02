"""Calls of the kernels of weight gradients."""
