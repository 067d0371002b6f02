"""What is no contraction: kernels that make maps of maps, with the bits of torch's own operators."""
