"""Weights packed in the order of the microkernel, and kept as long as they are the same."""
