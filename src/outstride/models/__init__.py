"""Models traced, captured as graphs, copied; in ``operators`` what is known of torch's operators."""
