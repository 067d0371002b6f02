"""Convolutions and transposed convolutions for PyTorch."""
