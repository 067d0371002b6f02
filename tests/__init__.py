"""The laws, the outside suites, and the pages held to what they say: a folder for each of the source's."""

from pathlib import Path

#: The repository.
ROOT = Path(__file__).resolve().parent.parent
