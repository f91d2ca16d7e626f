"""Files that somebody else has named, saved into a directory: never outside of it, never in place of another file, and under
their names only when they are complete. The same as Go's package savedir."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import unicodedata
from pathlib import Path
from typing import Callable, Iterable, TypeVar

T = TypeVar("T")

NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL

# How many files of one name a directory gets.
MAX_SAME_NAME = 10_000

# The end of the name of a file that is still being written, and of no other. It is locked as long as its writer lives, so
# one that was left by a process that was killed is known, and removed.
PART_SUFFIX = ".blocksd-part"

MAX_NAME = 200  # bytes; file systems allow 255, and a number may be added

# The tables of the operating system differ from machine to machine.
EXTENSIONS = {
    "application/gzip": ".gz", "application/json": ".json", "application/pdf": ".pdf", "application/wasm": ".wasm",
    "application/x-ndjson": ".ndjson", "application/x-tar": ".tar", "application/xml": ".xml", "application/yaml": ".yaml",
    "application/zip": ".zip",
    "audio/flac": ".flac", "audio/mp4": ".m4a", "audio/mpeg": ".mp3", "audio/ogg": ".ogg", "audio/wav": ".wav", "audio/x-wav": ".wav",
    "image/avif": ".avif", "image/bmp": ".bmp", "image/gif": ".gif", "image/jpeg": ".jpg", "image/png": ".png", "image/svg+xml": ".svg",
    "image/tiff": ".tiff", "image/webp": ".webp",
    "text/css": ".css", "text/csv": ".csv", "text/html": ".html", "text/javascript": ".js", "text/markdown": ".md",
    "text/plain": ".txt", "text/xml": ".xml", "text/yaml": ".yaml",
    "video/mp4": ".mp4", "video/ogg": ".ogv", "video/webm": ".webm",
}  # fmt: skip

# They change the direction of a text, so that a name reads as another one.
BIDI_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def safe_name(sent: str, mime_type: str, index: int) -> str:
    """A name for a file that somebody else has named: only the last element counts, it never begins with a dot or a dash, and
    the extension of the media type is added to a name that has none. A file without a name gets its index."""
    name = sent.replace("\\", "/").rpartition("/")[2]
    name = _trimmed("".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cs") and c not in BIDI_CONTROLS and c != "\ufffd"))
    if not name:
        name = f"artifact-{index}"
    if len(name.encode()) > MAX_NAME:
        extension = _extension(name).encode()
        if len(extension) > 20:
            extension = b""
        name = _trimmed((name.encode()[: MAX_NAME - len(extension)]).decode(errors="ignore") + extension.decode())
    if _extension(name):
        return name
    media = mime_type.partition(";")[0].strip().lower()
    if media not in EXTENSIONS and "+" in media:  # application/ld+json and the like
        media = "application/" + media.rpartition("+")[2]
    return name + EXTENSIONS.get(media, "")


def _trimmed(name: str) -> str:
    """Without what must not stand at its ends, whatever stands behind that."""
    while (shorter := name.removesuffix(PART_SUFFIX).strip().lstrip(".- ")) != name:
        name = shorter
    return name


def _extension(name: str) -> str:
    dot = name.rfind(".")
    return name[dot:] if dot >= 0 else ""


class SaveDir:
    """A directory that files are saved in, created if needed. Everything here blocks."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            pass  # and it is no directory, which open says
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        os.close(self._fd)

    def save(self, name: str, pieces: Iterable[bytes]) -> Path:
        """Saves pieces under a name that safe_name has made, with a number where that is taken. Where they fail, or the
        file cannot be written, nothing is left."""
        temporary, fd = self._create(name)
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(fd, rest) :]
            return self.path / self._move(temporary, name)  # still locked
        except BaseException:
            self._remove(temporary)  # a partial file is worse than none
            raise
        finally:
            os.close(fd)

    def _create(self, name: str) -> tuple[str, int]:
        """The file that name is written to until it is complete, locked."""

        def attempt(free: str) -> tuple[str, int]:
            temporary = free + PART_SUFFIX
            self._remove_abandoned(temporary)
            fd = os.open(temporary, NEW, 0o644, dir_fd=self._fd)
            # Somebody may take it for an abandoned one before it is locked, or have done so.
            if _lock(fd) is False or not self._is_at(temporary, fd):
                os.close(fd)
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), temporary)
            return temporary, fd

        return _first_free(name, attempt)

    def _remove_abandoned(self, part: str) -> None:
        try:
            fd = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._fd)
        except OSError:
            return
        try:
            if _lock(fd) and self._is_at(part, fd):
                self._remove(part)
        finally:
            os.close(fd)

    def _is_at(self, name: str, fd: int) -> bool:
        """Whether name still is that file, a regular one."""
        mine = os.fstat(fd)
        try:
            now = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(mine.st_mode) and os.path.samestat(mine, now)

    def _move(self, temporary: str, name: str) -> str:
        """Gives a complete file its name, or the next one that is free."""

        def link(free: str) -> str:  # unlike a rename it never replaces a file
            os.link(temporary, free, src_dir_fd=self._fd, dst_dir_fd=self._fd, follow_symlinks=False)
            return free

        def take(free: str) -> str:
            os.close(os.open(free, NEW, 0o644, dir_fd=self._fd))
            return free

        try:
            got = _first_free(name, link)
        except OSError as err:
            if err.errno not in (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A file system without hard links: the name is taken first.
            got = _first_free(name, take)
            os.rename(temporary, got, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        else:
            self._remove(temporary)
        return got

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._fd)
        except OSError:
            pass  # it stays, and the next name is taken


def _lock(fd: int) -> bool | None:
    """Locks a file until it is closed. False means that somebody else has it, None that the file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _first_free(name: str, use: Callable[[str], T]) -> T:
    """Calls use with name, and with a number added as long as the name is taken."""
    stem, extension = name.removesuffix(_extension(name)), _extension(name)
    for number in range(2, MAX_SAME_NAME + 1):
        try:
            return use(name)
        except FileExistsError:
            name = f"{stem} ({number}){extension}"
    return use(name)
