"""What a layer looks like: pictures made of its numbers."""
