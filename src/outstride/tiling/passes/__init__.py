"""What is done before the tiles of a model that looks at whole maps."""
