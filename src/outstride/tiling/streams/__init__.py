"""Models on inputs that arrive in chunks."""
