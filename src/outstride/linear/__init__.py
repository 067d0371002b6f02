"""A layer seen as a matrix: a linear operator of SciPy's, with its sparse matrix and its singular values."""
