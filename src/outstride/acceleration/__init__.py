"""A model whose convolution and linear layers this engine computes, and the way back."""

from outstride.acceleration.accelerating import accelerate, restore, summary

__all__ = ["accelerate", "restore", "summary"]
