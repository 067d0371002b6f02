"""The local page: its questions, its guard, and the page itself in a browser."""
