"""How inputs and weights are brought into the order in which microkernels read them."""
