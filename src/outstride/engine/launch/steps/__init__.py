"""Steps on tensors: by torch, by kernels, and whether both agree."""
