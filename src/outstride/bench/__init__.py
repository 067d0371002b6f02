"""Time layers and whole models on outstride and on its peers, each in a process of its own."""
