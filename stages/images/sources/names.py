"""Make names safe on every file system."""

import unicodedata

from pathvalidate import sanitize_filename


def safe(name: str) -> str:
    """Return a part of a path without what a file system, a shell or a terminal misreads: 1 to 120 bytes, printable."""
    name = "".join(c if c.isprintable() else "_" for c in unicodedata.normalize("NFC", name))
    name = (name.encode()[:90] + name.encode()[90:][-30:]).decode(errors="ignore").lstrip(" .-").rstrip(" .")
    options = {"platform": "universal", "fs_encoding": "utf-8", "reserved_name_handler": lambda _: "_"}
    return sanitize_filename(name, "_", **options) or "_"


def key(name: object) -> str:
    """Return a string that is equal for names that some file system does not distinguish (case, composition)."""
    return unicodedata.normalize("NFKC", str(name)).casefold()
