"""The main job on a real picture: train a small super-resolution network and show what it does."""
