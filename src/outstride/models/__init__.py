"""Models as they run: traced, captured as graphs of torch's operators, kept apart from their owner's."""
