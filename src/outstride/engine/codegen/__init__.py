"""Plans as LLVM IR text."""
