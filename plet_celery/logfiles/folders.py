"""Opens folders and files of the runs tree: step by step, by descriptor, never through a link.

Every folder on the way must belong to the owner of the root and be closed to other writers, every
file be a plain one of that owner with one name. Paths come from `paths.py` only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from plet_celery.errors import HomeError, LogNotFound
from plet_celery.wholewrites import write_whole

OPEN_MAX: Final = 60
"""Files kept open between batches."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# NONBLOCK: a planted FIFO must not stop us.
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# A link, a file for a folder or the reverse, a FIFO without a reader, a device, a socket.
_STRANGE: Final = (errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EISDIR, errno.ENXIO, errno.ENODEV)


@contextlib.contextmanager
def opened_folder(root: Path, relative: str, *, create: bool = False) -> Iterator[int]:
    """Give a descriptor of the folder `relative` below `root`.

    Raises:
        LogNotFound: it does not exist.
        HomeError: a part of the path is a link, no folder, of another owner or writable by others.
    """
    current = _step(None, str(root), create=False)
    try:
        for name in _names(relative):
            below = _step(current, name, create=create)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


def listed(root: Path, relative: str) -> list[str]:
    """Return the names in the folder `relative` below `root`; none where it is not there.

    Raises:
        HomeError: as `opened_folder`.
    """
    try:
        with opened_folder(root, relative) as folder:
            return names_in(folder)
    except LogNotFound:
        return []


def open_to_write(folder: int, name: str, *, new: bool) -> int:
    """Return a descriptor to write the file `name`; a new one is made 0600, whatever the umask.

    Raises:
        FileNotFoundError: it is not new, and gone.
        HomeError: it is no plain file of the folder's owner, or has a second name.
    """
    flags = _FILE | os.O_RDWR | (os.O_CREAT if new else 0)
    descriptor = _open_checked(folder, name, flags)
    try:
        if new and os.fstat(descriptor).st_mode & 0o777 != 0o600:
            os.fchmod(descriptor, 0o600)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_to_read(folder: int, name: str) -> int:
    """Return a descriptor to read the file `name`; raises as `open_to_write`."""
    return _open_checked(folder, name, _FILE | os.O_RDONLY)


def remove_folder(root: Path, relative: str) -> bool:
    """Remove a run's folder with its files, whatever they are, and a tenant's that is empty then.

    Nothing is followed.

    Returns:
        False when it was not there.

    Raises:
        HomeError: the path leads through a link, or holds a folder, which no run makes.
    """
    tenant, _, name = relative.rpartition("/")
    try:
        with opened_folder(root, relative) as folder:
            for one in names_in(folder):
                _remove_plain(folder, one)
        with opened_folder(root, tenant) as parent:
            os.rmdir(name, dir_fd=parent)
    except (LogNotFound, FileNotFoundError):
        return False
    _remove_empty(root, tenant)
    return True


def names_in(folder: int) -> list[str]:
    """Return the names of the files and folders in a folder."""
    return os.listdir(folder)


def remove_file(folder: int, name: str) -> None:
    """Remove the file `name`; it may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def remove_ours(folder: int, name: str) -> None:
    """Remove the file `name` if it is one that we could have made; it may be gone already."""
    try:
        os.close(open_to_read(folder, name))
    except (FileNotFoundError, HomeError):
        return
    remove_file(folder, name)


def replace_file(folder: int, name: str, data: bytes) -> None:
    """Put a file of ours in place in one step: a reader sees the old content or the new one."""
    fresh = f"{name}.new"
    descriptor = os.open(fresh, _FILE | os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=folder)
    try:
        os.fchmod(descriptor, 0o600)
        write_whole(descriptor, data, 0)
    finally:
        os.close(descriptor)
    os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)


class OpenFiles:
    """The files that batches write to, kept open by recent use."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._folder: tuple[str, int] | None = None
        """The last folder: a run's files are opened one after the other."""

    def descriptor(self, folder: str, name: str, *, size: int) -> tuple[int, int]:
        """Return the descriptor and the length of a file that should hold `size` bytes; 0 makes a new one.

        Raises:
            FileNotFoundError: the file or its folder is gone although `size` is not 0.
        """
        key = (folder, name)
        found = self._open.get(key)
        if found is not None:
            status = os.fstat(found)
            if status.st_nlink == 1:
                self._open.move_to_end(key)
                return found, status.st_size
            self.forget(folder, name)
        found = open_to_write(self._enter(folder, create=size == 0), name, new=size == 0)
        self._open[key] = found
        while len(self._open) > OPEN_MAX:
            os.close(self._open.popitem(last=False)[1])
        return found, os.fstat(found).st_size

    def forget(self, folder: str, name: str) -> None:
        """Close the file if it is open."""
        found = self._open.pop((folder, name), None)
        if found is not None:
            os.close(found)

    def leave(self) -> None:
        """Close the last folder; between batches it may be removed."""
        if self._folder is not None:
            os.close(self._folder[1])
            self._folder = None

    def close(self) -> None:
        """Close all."""
        self.leave()
        while self._open:
            os.close(self._open.popitem()[1])

    def _enter(self, folder: str, *, create: bool) -> int:
        if self._folder is not None and self._folder[0] == folder:
            return self._folder[1]
        self.leave()
        try:
            with opened_folder(self._root, folder, create=create) as descriptor:
                self._folder = (folder, os.dup(descriptor))
        except LogNotFound as error:
            raise FileNotFoundError(str(error)) from None
        return self._folder[1]


def _names(relative: str) -> list[str]:
    names = relative.split("/")
    if any(name in ("", ".", "..") or "\0" in name for name in names):
        raise HomeError(
            f"{relative[:200]!r} is no log folder name; log folders are named by paths.run_folder"
        )
    return names


def _step(parent: int | None, name: str, *, create: bool) -> int:
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
            # mkdir obeys the umask, which may have taken our own right to enter.
            os.chmod(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        raise LogNotFound(f"there is no log folder {name!r} on this host") from None
    except OSError as error:
        if error.errno not in _STRANGE:
            raise
        raise HomeError(
            f"log folder {name!r} cannot be entered ({error.strerror}); it must be a plain folder, not a link"
        ) from error
    found = os.fstat(descriptor)
    owner = found.st_uid if parent is None else os.fstat(parent).st_uid
    if found.st_uid != owner or stat.S_IMODE(found.st_mode) & 0o022:
        os.close(descriptor)
        raise HomeError(
            f"log folder {name!r} belongs to uid {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}; "
            f"it must belong to uid {owner} and be closed to other writers (chmod go-w)"
        )
    return descriptor


def _open_checked(folder: int, name: str, flags: int) -> int:
    if "/" in name or name in ("", ".", ".."):
        raise HomeError(f"{name[:200]!r} is no log file name")
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _STRANGE:
            raise HomeError(
                f"log file {name!r} cannot be opened ({error.strerror}); it must be a plain file, not a link"
            ) from error
        raise
    found, owner = os.fstat(descriptor), os.fstat(folder).st_uid
    if found.st_nlink == 0:
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "removed while it was opened", name)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != owner:
        os.close(descriptor)
        raise HomeError(
            f"log file {name!r} is no plain file of uid {owner} with one name "
            f"(owner {found.st_uid}, {found.st_nlink} names); remove it"
        )
    return descriptor


def _remove_empty(root: Path, tenant: str) -> None:
    """Remove a tenant's folder, and those above it, as far as they are empty."""
    while tenant:
        above, _, name = tenant.rpartition("/")
        place = opened_folder(root, above) if above else _opened_root(root)
        try:
            with place as parent:
                os.rmdir(name, dir_fd=parent)
        except OSError:
            return  # not empty
        tenant = above


@contextlib.contextmanager
def _opened_root(root: Path) -> Iterator[int]:
    descriptor = _step(None, str(root), create=False)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_plain(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError as error:
        raise HomeError(
            f"log folder holds a folder {name!r}, which is not ours; remove it by hand"
        ) from error
