"""Results as files: nothing that is finished is lost, and nothing partial looks whole."""
