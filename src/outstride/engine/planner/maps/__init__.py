"""What is no contraction, as problems: windows of pooling, and the order of sums over maps."""
