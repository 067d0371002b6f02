"""What a release says of itself that a checkout does not: where it is from, badges, links that work anywhere.

The address of the repository is known to whoever publishes from it, so it is given, not written down here:
``OUTSTRIDE_REPOSITORY=https://HOST/OWNER/NAME python -m build``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: An image, or a link that may have one as its text; a target that names no scheme and no part of the page.
_TARGET = re.compile(r"(?P<image>!?)(?P<text>\[(?:[^\[\]]|\[[^\[\]]*\])*\])\((?!\w+:|#)(?P<path>[^()\s]+)\)")
#: The line of the README in whose place badges stand, and what one of them opens.
BADGES, NOTEBOOK = "<!-- badges -->", "examples/super_resolution.ipynb"


class ReleaseMetadata(MetadataHookInterface):
    """The description on the index, and the addresses beside it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the fields that pyproject.toml names as dynamic."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        address = os.environ.get("OUTSTRIDE_REPOSITORY", "").rstrip("/")
        if address:
            at = f"v{metadata['version']}"
            text = with_badges(text, address, at)
            text = with_addresses(text, f"{address}/blob/{at}", f"{address}/raw/{at}")
            metadata["urls"] = {
                "Source": address,
                "Documentation": f"{address}/blob/{at}/docs/index.md",
                "Changelog": f"{address}/blob/{at}/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_badges(text: str, address: str, at: str) -> str:
    """Markdown with badges in the place that it marks: of what is there at this address, and nothing else.

    Args:
        text: the page.
        address: of the repository.
        at: the tag of the release.
    """
    found = re.fullmatch(r"https://github\.com/([^/]+/[^/]+)", address)
    if not found:
        return text
    checks = f"{address}/actions/workflows/checks.yml"
    notebook = f"https://colab.research.google.com/github/{found[1]}/blob/{at}/{NOTEBOOK}"
    badges = (
        f"[![checks]({checks}/badge.svg)]({checks})",
        f"[![the demo in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({notebook})",
    )
    return text.replace(BADGES, "\n".join(badges))


def with_addresses(text: str, pages: str, files: str) -> str:
    """Markdown whose links and images inside the repository are addresses."""

    def address(found: re.Match[str]) -> str:
        inner = _TARGET.sub(address, found["text"])
        return f"{found['image']}{inner}({files if found['image'] else pages}/{found['path']})"

    return _TARGET.sub(address, text)
