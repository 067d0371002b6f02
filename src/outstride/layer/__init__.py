"""What a layer is: its description, its arguments, its written form and the arithmetic of one axis."""
