"""Files that operating systems, editors and copying programs leave between people's own, by their names."""

from fnmatch import fnmatchcase
from typing import Final


def maker_of(name: str) -> str | None:
    """What made a file or folder of such a name; None where people did.

    Examples
    --------
    >>> maker_of(".DS_Store")
    'macOS'
    >>> maker_of("model.onnx") is None
    True
    """
    return next((maker for pattern, maker in MAKERS.items() if fnmatchcase(name, pattern)), None)


MAKERS: Final[dict[str, str]] = {
    ".DS_Store": "macOS",
    "._*": "macOS",
    ".AppleDouble": "macOS",
    ".Spotlight-V100": "macOS",
    ".Trashes": "macOS",
    ".fseventsd": "macOS",
    "Thumbs.db": "Windows",
    "ehthumbs.db": "Windows",
    "desktop.ini": "Windows",
    "$RECYCLE.BIN": "Windows",
    "System Volume Information": "Windows",
    ".nfs*": "an NFS client, for a file that was deleted while a program held it open,",
    ".fuse_hidden*": "a FUSE file system, for a file that was deleted while a program held it open,",
    "lost+found": "the file system",
    ".snapshot": "the storage system",
    "@eaDir": "a Synology NAS",
    "#recycle": "a Synology NAS",
    ".directory": "KDE",
    ".Trash-*": "a desktop",
    ".git*": "Git",
    "*.swp": "an editor",
    "*.swo": "an editor",
    "*~": "an editor",
    ".#*": "an editor",
    "#*#": "an editor",
    "*.filepart": "a copy that was not finished",
    "*.partial": "a copy that was not finished",
    ".*.??????": "a copy by rsync, under way or not finished,",
}
"""Pattern of a name -> who makes such files."""
