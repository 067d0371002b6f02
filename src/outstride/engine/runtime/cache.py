"""The disk cache of compiled kernels: object files under the hash of all that made them.

A file is a header with the digest of its name and content, then the object. Files are written beside and
renamed, so readers see whole files or none; a damaged or foreign file is ignored and written anew. Any
trouble with the disk costs only time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from pathlib import Path

_MAGIC = b"outstride kernel 2\n"
#: How files end: object code, and what was found out about a machine.
KERNEL, VERDICT = ".kernel", ".verdict"
#: Bytes of the largest file that is looked into: kernels have less than a hundredth of it.
_MOST = 1 << 26


def path() -> Path:
    """The directory: OUTSTRIDE_CACHE_DIR, else the user's cache directory, or else a temporary one."""
    chosen = os.environ.get("OUTSTRIDE_CACHE_DIR")
    if chosen:
        return Path(chosen)
    try:
        return _users_cache() / "outstride" / "kernels"
    except RuntimeError:  # neither HOME nor an entry in the list of users, as in many containers
        # Directly in the shared directory, where nobody else can rename it.
        return Path(tempfile.gettempdir()) / f"outstride-kernels-{getattr(os, 'getuid', int)()}"


def _users_cache() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def entries(suffix: str = KERNEL) -> list[Path]:
    """The files of the cache that end so."""
    try:
        return sorted(p for p in path().iterdir() if p.suffix == suffix and p.is_file())
    except OSError:
        return []


def size_bytes() -> int:
    """What the files take."""
    total = 0
    for entry in entries():
        with contextlib.suppress(OSError):
            total += entry.stat().st_size
    return total


def clear() -> int:
    """Delete everything and return how many kernels there were; kernels in use go on."""
    gone = 0
    for entry in (*entries(VERDICT), *entries()):
        with contextlib.suppress(OSError):
            entry.unlink()
            gone += entry.suffix == KERNEL
    return gone


def key(*parts: str) -> str:
    """The file name for what `parts` describe."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _private(directory: Path) -> bool:
    """Whether nobody else could have put code there."""
    if not hasattr(os, "getuid"):
        return True
    status = directory.stat()
    return status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o022


def _digest(name: str, code: bytes) -> bytes:
    """What tells a whole file from a damaged one, and from another kernel's file under this name."""
    return hashlib.sha256(name.encode() + b"\0" + code).digest()


def _content(file: Path) -> bytes:
    """What a file holds; nothing of one that no cache wrote, such as a pipe, a device or one without end."""
    with open(file, "rb", opener=_at_once) as opened:
        status = os.fstat(opened.fileno())
        return opened.read() if stat.S_ISREG(status.st_mode) and status.st_size <= _MOST else b""


def _at_once(file: str, flags: int) -> int:
    """Open without waiting for whoever would write to a pipe."""
    return os.open(file, flags | getattr(os, "O_NONBLOCK", 0))


def read(name: str, suffix: str = KERNEL) -> bytes | None:
    """What is stored under `name`, or None if there is none that can be trusted."""
    directory = path()
    try:
        if not _private(directory):
            return None
        content = _content(directory / (name + suffix))
    except OSError:
        return None
    head = len(_MAGIC) + 32
    if not content.startswith(_MAGIC) or _digest(name, content[head:]) != content[len(_MAGIC) : head]:
        return None
    return content[head:]


def write(name: str, code: bytes, suffix: str = KERNEL) -> bool:
    """Store an object, or something else; False if the directory does not take it."""
    directory = path()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _private(directory):
            return False
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=".new-")
    except OSError:
        return False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_MAGIC + _digest(name, code) + code)
        Path(temporary).replace(directory / (name + suffix))
    except OSError:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        return False
    return True
