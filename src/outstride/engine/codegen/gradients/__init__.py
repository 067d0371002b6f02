"""Weight gradients as LLVM IR text: by outer products, by dot products, by short algorithms, as they lie."""
