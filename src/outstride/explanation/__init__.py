"""What a layer does, step by step, in pictures that move."""
