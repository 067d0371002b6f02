"""What a release says of itself that a checkout does not: where it comes from, and links that work elsewhere.

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


class ReleaseMetadata(MetadataHookInterface):
    """The description on the index, and the addresses beside it."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the fields that pyproject.toml names as dynamic."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        address = os.environ.get("OUTSTRIDE_REPOSITORY", "").rstrip("/")
        if address:
            at = f"v{metadata['version']}"
            text = with_addresses(text, f"{address}/blob/{at}", f"{address}/raw/{at}")
            metadata["urls"] = {
                "Source": address,
                "Documentation": f"{address}/blob/{at}/docs/index.md",
                "Changelog": f"{address}/blob/{at}/CHANGELOG.md",
                "Issues": f"{address}/issues",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def with_addresses(text: str, pages: str, files: str) -> str:
    """Markdown whose links and images inside the repository are addresses."""

    def address(found: re.Match[str]) -> str:
        inner = _TARGET.sub(address, found["text"])
        return f"{found['image']}{inner}({files if found['image'] else pages}/{found['path']})"

    return _TARGET.sub(address, text)
