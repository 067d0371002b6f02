"""Calls of the kernels that make maps of maps, each with the bits of torch's own operator."""
