"""The engine: plans, generated code, and what runs it on tensors."""
