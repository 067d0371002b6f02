"""What is known of torch's operators and layers: how arguments read, what each position reads of the input.

A file for each kind, which is described by a frozen class. ``describing.describe`` reads the description of
an operation; the rules of the rooms that follow a model from layer to layer are told apart by it.
"""
