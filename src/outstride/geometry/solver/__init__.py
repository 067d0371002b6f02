"""The way back: from sizes and scales to the layers that give them, ranked, each with its reasons."""
