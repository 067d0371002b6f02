"""The local page: layers at work and every answer about them, computed here and shown in a browser."""
