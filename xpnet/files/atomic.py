"""Files that are never half written: whatever interrupts a write, the old content or the new is there."""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress

from xpnet.errors import CheckpointIOError
from xpnet.validation import check_path

try:
    import fcntl
except ImportError:  # Windows: it cannot sync a folder, and an open file cannot be renamed or removed there
    fcntl = None  # type: ignore[assignment]

TEMPORARY = re.compile(r"\.xpnet-[0-9a-f]{16}\.tmp")
"""Names of the temporary files that `write_atomically` makes beside its target."""

_CHUNK = 1 << 24  # bytes a write: small enough that Ctrl-C is answered while a large file is written
_ADVICE = {
    errno.ENOENT: "create the folder first",
    errno.ENOTDIR: "a part of the path is a file where a folder is needed",
    errno.EISDIR: "give the path of a file, not of a folder",
    errno.EACCES: "choose a path that you may write, or change the permissions",
    errno.EROFS: "choose a path on a file system that can be written",
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "your quota is used up: remove some files or choose another disk",
    errno.EFBIG: "the file is larger than the system allows (see `ulimit -f`)",
    errno.EINVAL: "give the path of a regular file",
}
# A file system without hard links answers one of these, and ENOENT comes if another process replaces the file at that
# instant; then there is no way back after the rename.
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.ENOENT}
# Some network file systems cannot sync a folder at all, and need not.
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


def write_atomically(path: str | os.PathLike[str], chunks: Iterable[bytes | memoryview]) -> None:
    """Replace the content of `path` by `chunks`, one after the other; all of it or nothing.

    The bytes go to a temporary file in the same folder, which is synced to the disk and then renamed onto `path`;
    the folder is synced last. After a crash, a kill or a loss of power, `path` therefore holds its old content or its
    new content, and once this function has returned, the new.

    A new file gets the mode 0666 without the bits of the umask; an existing one keeps its mode, and its owner where
    the system allows it. If `path` is a symbolic link, the file that it points to is replaced and the link stays.
    (Another hard link to the old file keeps the old content, as with every rename.)

    Temporary files that killed processes left in the folder are removed: a writer holds a lock on its own, and a file
    that nobody locks has no writer any more.

    Parameters
    ----------
    path : str or path
        The file to write. Its folder must exist.
    chunks : iterable of bytes or one-dimensional memoryviews of bytes
        The content.

    Raises
    ------
    CheckpointIOError
        The system refused: no such folder, no permission, disk full, ... `errno` tells which. `path` is as it was, to
        the byte, and no temporary file is left. (Where a file system has no hard links, one case is not undone: the
        sync of the folder failing after the rename; the complete new file is there then.)
    """
    name = check_path(path)
    try:
        _write(name, chunks)
    except OSError as error:
        raise io_error("write", name, error) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the CheckpointIOError that `write_atomically` would, as far as that can be known without writing."""
    name = check_path(path)
    try:
        folder = os.path.dirname(_resolve(name)[0])
        os.stat(folder)
        _check_access(folder)
    except OSError as error:
        raise io_error("write", name, error) from error


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a file for reading, unbuffered; anything but a regular file (a folder, a pipe, a device) is refused.

    Raises
    ------
    CheckpointIOError
        The file is not there, is not a regular file, or must not be read.
    """
    name = check_path(path)
    try:
        file = io.FileIO(name, opener=_open_without_waiting)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "not a regular file")
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise io_error("read", name, error) from error
    return file


def io_error(action: str, path: str, error: OSError | ValueError) -> CheckpointIOError:
    """Return the CheckpointIOError that says which `action` on which `path` failed, why, and what to do."""
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    advice = "check the path" if action == "read" else _ADVICE.get(code or 0, "choose another path or disk")
    result = CheckpointIOError(f"cannot {action} {path!r}: {text} ({errno.errorcode.get(code or 0, code)}); {advice}")
    result.errno = code
    return result


def _write(path: str, chunks: Iterable[bytes | memoryview]) -> None:
    target, old = _resolve(path)
    folder = os.path.dirname(target)
    folder_handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY) if fcntl else None
    handle = None
    temporary = backup = ""
    try:
        _remove_stale(folder)
        while handle is None:
            temporary = _temporary_name(folder)
            handle = _create(temporary, 0o666 if old is None else 0o600)
        _write_all(handle, chunks)
        if old is not None:
            _keep_owner_and_mode(handle, old)
        os.fsync(handle)
        if old is not None:
            backup = _temporary_name(folder)  # known here before it exists: Ctrl-C may come at any time
            backup = _link(target, backup, old)
        if fcntl is None:
            os.close(handle)
            handle = None
        os.replace(temporary, target)
        if folder_handle is not None:
            _sync_folder(folder_handle, target, old is None, backup)
    finally:
        # Whatever happened, Ctrl-C included, and also if it comes again here. The names were never used before, so
        # that nobody else's file can go.
        try:
            _unlink(temporary)
        finally:
            try:
                _unlink(backup)
            finally:
                try:
                    _close(handle)
                finally:
                    _close(folder_handle)


def _unlink(path: str) -> None:
    if path:
        with suppress(OSError):
            os.unlink(path)


def _close(handle: int | None) -> None:
    if handle is not None:
        with suppress(OSError):  # the data is synced already
            os.close(handle)


def _resolve(path: str) -> tuple[str, os.stat_result | None]:
    """Return the file that a path stands for, all links followed, and its status; None if there is none yet."""
    try:
        target = os.path.realpath(path)
        old = _status(target)
    except ValueError as error:  # a NUL character in the path
        raise OSError(errno.EINVAL, str(error)) from error
    if path.endswith(os.sep):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return target, old


def _status(target: str) -> os.stat_result | None:
    """Return the status of the file to be replaced; None if there is none; an OSError if it must not be replaced."""
    try:
        status = os.lstat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISLNK(status.st_mode):  # still a link after `realpath`: it points to itself
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    _check_access(target)
    return status


def _check_access(path: str) -> None:
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _temporary_name(folder: str) -> str:
    return os.path.join(folder, f".xpnet-{secrets.token_hex(8)}.tmp")


def _create(temporary: str, mode: int) -> int | None:
    """Create and lock a temporary file; None if another process took it for a stale one before it was locked."""
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    if fcntl is None:
        return handle
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks: nobody can lock, so nobody takes this file for a stale one
        return handle
    if os.fstat(handle).st_nlink == 0:
        os.close(handle)
        return None
    return handle


def _remove_stale(folder: str) -> None:
    """Remove the temporary files in `folder` that no process holds a lock on; failing to is no error."""
    if fcntl is None:
        return
    names = []
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.path for entry in entries if TEMPORARY.fullmatch(entry.name)]
    for name in names:
        with suppress(OSError):
            handle = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(handle).st_mode):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name)  # while holding the lock: a writer that comes second sees that its file is gone
            finally:
                os.close(handle)


def _write_all(handle: int, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            count = os.write(handle, rest[:_CHUNK])
            if count == 0:
                raise OSError(errno.EIO, "the system wrote 0 bytes")
            rest = rest[count:]


def _keep_owner_and_mode(handle: int, old: os.stat_result) -> None:
    if fcntl is None:
        return
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(OSError):  # only root may give files away
            os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, stat.S_IMODE(old.st_mode))


def _link(target: str, backup: str, old: os.stat_result) -> str:
    """Give the old file a second name for the way back; return that name, empty where there can be none."""
    folder = os.stat(os.path.dirname(target))
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, folder.st_uid, old.st_uid):
        return ""  # nobody else could remove it again
    try:
        os.link(target, backup)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return ""
    return backup


def _sync_folder(folder_handle: int, target: str, created: bool, backup: str) -> None:
    """Make the rename durable; if that fails, undo it."""
    try:
        os.fsync(folder_handle)
    except OSError as error:
        if error.errno in _NO_FOLDER_SYNC:
            return
        try:
            if created:
                os.unlink(target)
            elif backup:
                os.replace(backup, target)
            else:
                raise OSError(errno.EOPNOTSUPP, "no hard links here")
        except OSError as failure:
            text = f"{error.strerror}, and the new file stayed in place ({failure.strerror})"
            raise OSError(error.errno, text) from error
        raise


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe for reading would wait for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
