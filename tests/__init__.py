"""The laws, the outside suites, and the pages held to what they say."""
