"""What a map is folded to part by part, with the bits of torch's routine on the whole."""
