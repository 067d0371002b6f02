"""Files in and out: formats, what they say beside numbers, and where results may not go."""
