"""`python -m outstride` is the command `outstride`."""

from __future__ import annotations

from outstride.cli import main

if __name__ == "__main__":
    main()
