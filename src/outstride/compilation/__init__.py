"""``torch.compile(model, backend="outstride")``: whole models, fused without changing a bit.

Torch's tracer brings a graph; ``serving`` gives its convolutions to this engine, ``fusing`` finds what one
kernel can do, and ``running`` does it. ``fusions`` says what became of every operator.
"""

from outstride.compilation.backend import outstride

__all__ = ["outstride"]
