"""The three contractions and their derivatives, which are the contractions again."""
