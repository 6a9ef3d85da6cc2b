"""Names from elsewhere => names that are safe on every file system."""

import hashlib
import re
import unicodedata

LONGEST = 120  # bytes; file systems allow 255, and a suffix that tells two names apart must fit
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe(name: str) -> str:
    """One part of a path => the same, without what a shell, a page or a file system trips over; never empty."""
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", name)).strip().rstrip(". ")
    name = re.sub(r"^[-.]+", lambda match: "_" * len(match.group()), name)
    if _RESERVED.match(name):
        name = "_" + name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > 10:
        stem, dot, extension = name, "", ""
    room = LONGEST - len((dot + extension).encode())
    return (stem.encode()[:room].decode(errors="ignore") or "_") + dot + extension


def distinct(name: str, content: str) -> str:
    """A name that is taken and a hash => another name: `a.jpg` => `a-1f3c5a7e.jpg`."""
    stem, dot, extension = name.rpartition(".")
    if not stem:
        stem, dot, extension = name, "", ""
    return f"{stem}-{content[:8]}{dot}{extension}"


def key(name: str) -> str:
    """A name => what two names share when some file system takes them for one (case, composition)."""
    return unicodedata.normalize("NFKC", name).casefold()


def digest(content: bytes) -> str:
    """Bytes => their SHA-256, as hex."""
    return hashlib.sha256(content).hexdigest()
