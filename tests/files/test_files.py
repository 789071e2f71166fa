"""Writing files: all of the new content or all of the old, whatever the system, a signal or another process does."""

from __future__ import annotations

import errno
import os
import random
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_injection import SYSTEM_CALLS, Calls, temporaries

from xpnet.errors import CheckpointIOError
from xpnet.files import atomic as files
from xpnet.files.atomic import open_regular, write_atomically

OLD, NEW = b"old " * 100, b"new" * 500
DISK_ERRORS = [errno.ENOSPC, errno.EIO, errno.EDQUOT]


@pytest.fixture
def small_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_CHUNK", 400)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write everywhere, whatever the permissions; nobody may not."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def count_calls(path: Path) -> list[str]:
    with Calls().watching() as calls:
        write_atomically(path, [NEW])
    return calls.log


# ------------------------------------------------------------------------------------------- content


@pytest.mark.parametrize("old", [None, OLD, b"", NEW * 9])
def test_content_is_replaced_as_a_whole(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "f"
    if old is not None:
        path.write_bytes(old)
    write_atomically(path, [b"one", b"", memoryview(b" two")])
    assert path.read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["f"]


def test_a_path_may_be_a_string_relative_or_with_any_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f", "./g", "späce \n\u202e.x", "x" * 255):
        write_atomically(name, [NEW])
        assert Path(name).read_bytes() == NEW


def test_the_system_may_write_less_than_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, rng = os.write, random.Random(0)
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[: rng.randint(1, 9)]))
    write_atomically(tmp_path / "f", [NEW])
    assert (tmp_path / "f").read_bytes() == NEW


def test_a_system_that_writes_nothing_is_an_error_not_an_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda handle, data: 0)
    with pytest.raises(CheckpointIOError, match="wrote 0 bytes"):
        write_atomically(tmp_path / "f", [NEW])
    assert os.listdir(tmp_path) == []


def test_the_order_is_write_sync_rename_sync_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle)), fsync(handle)))
    assert count_calls(tmp_path / "f") == ["write", "fsync", "replace", "fsync"]
    assert count_calls(tmp_path / "f") == ["write", "fsync", "link", "replace", "fsync"]
    assert [stat.S_ISDIR(s.st_mode) for s in synced] == [False, True] * 2
    assert synced[0].st_size == len(NEW)
    assert synced[1].st_ino == tmp_path.stat().st_ino


# ------------------------------------------------------------------------------------ injected faults


@pytest.mark.parametrize("error", DISK_ERRORS)
@pytest.mark.parametrize("old", [OLD, None])
@pytest.mark.usefixtures("small_writes")
def test_whichever_call_fails_nothing_has_changed(tmp_path: Path, old: bytes | None, error: int) -> None:
    path = tmp_path / "f"

    def begin() -> None:
        path.unlink(missing_ok=True)
        if old is not None:
            path.write_bytes(old)

    begin()
    calls = len(count_calls(path))
    assert calls == (8 if old else 7)  # 4 writes, 2 syncs, 1 rename, and the link to the old file
    for k in range(calls):
        begin()
        with Calls(fail_at=k, error=error).watching() as log, pytest.raises(CheckpointIOError) as caught:
            write_atomically(path, [NEW])
        assert len(log.log) > k
        assert caught.value.errno == error
        assert str(path) in str(caught.value)
        assert os.strerror(error) in str(caught.value)
        assert (path.read_bytes() if path.exists() else None) == old, f"call {k}, {log.log[k]}"
        assert os.listdir(tmp_path) == (["f"] if old else []), f"call {k}, {log.log[k]}"


@pytest.mark.usefixtures("small_writes")
def test_when_all_calls_fail_from_one_on_the_file_is_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(OLD)
    contents = []
    for k in range(len(count_calls(path))):
        path.write_bytes(OLD)
        calls = Calls(fail_at=k, error=errno.EIO)
        calls.forever = True
        with calls.watching(), pytest.raises(CheckpointIOError) as caught:
            write_atomically(path, [NEW])
        contents.append(path.read_bytes())
        assert ("the new file stayed in place" in str(caught.value)) == (contents[-1] == NEW)
        assert os.listdir(tmp_path) == ["f"]
    assert contents == [OLD] * 7 + [NEW]  # only the last, the sync of the folder, comes after the rename


@pytest.mark.usefixtures("small_writes")
def test_ctrl_c_at_any_call_leaves_old_or_new_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "f"
    names = (*SYSTEM_CALLS, "open", "fstat", "fchmod", "lstat")
    path.write_bytes(OLD)
    with Calls(names).watching() as calls:
        write_atomically(path, [NEW])
    assert len(calls.log) > 10
    for k, name in enumerate(calls.log):
        path.write_bytes(OLD)
        with Calls(names, k, KeyboardInterrupt()).watching(), pytest.raises(KeyboardInterrupt):
            write_atomically(path, [NEW])
        assert path.read_bytes() == (NEW if name == "fsync" and k == len(calls.log) - 1 else OLD), name
        assert os.listdir(tmp_path) == ["f"], name


def test_a_real_limit_of_the_system_in_the_middle_of_a_write(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(OLD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(CheckpointIOError, match="File too large") as caught:
            write_atomically(path, [NEW])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == OLD
    assert os.listdir(tmp_path) == ["f"]


def test_without_hard_links_writing_works(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(OLD)
    with Calls(("link",), 0, errno.EPERM).watching() as calls:
        write_atomically(path, [NEW])
    assert calls.log == ["link"]
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path: Path, error: int) -> None:
    with Calls(("fsync",), 1, error).watching() as calls:
        write_atomically(tmp_path / "f", [NEW])
    assert len(calls.log) == 2
    assert (tmp_path / "f").read_bytes() == NEW


def test_without_locks_and_folder_handles_as_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    for content in (OLD, NEW):
        write_atomically(tmp_path / "f", [content])
        assert (tmp_path / "f").read_bytes() == content
    assert os.listdir(tmp_path) == ["f"]


# ----------------------------------------------------------------------------------------- bad targets


@pytest.mark.parametrize(
    ("make", "target", "code"),
    [
        (lambda d: None, "missing/f", errno.ENOENT),
        (lambda d: (d / "file").write_bytes(b""), "file/f", errno.ENOTDIR),
        (lambda d: (d / "folder").mkdir(), "folder", errno.EISDIR),
        (lambda d: (d / "folder").mkdir(), "folder/", errno.EISDIR),
        (lambda d: None, "f/", errno.EISDIR),
        (lambda d: (d / "loop").symlink_to("loop"), "loop", errno.ELOOP),
        (lambda d: (d / "dangling").symlink_to("missing/f"), "dangling", errno.ENOENT),
        (lambda d: os.mkfifo(d / "pipe"), "pipe", errno.EINVAL),
        (lambda d: None, "x" * 256, errno.ENAMETOOLONG),
        (lambda d: None, "a\0b", errno.EINVAL),
    ],
)
def test_an_impossible_target_is_refused_and_nothing_created(tmp_path: Path, make, target: str, code: int) -> None:
    make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointIOError) as caught:
        write_atomically(f"{tmp_path}/{target}", [NEW])
    assert caught.value.errno == code
    assert repr(f"{tmp_path}/{target}") in str(caught.value)
    assert f"({errno.errorcode[code]}); " in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(CheckpointIOError, match="not a regular file"):
        write_atomically("/dev/null", [NEW])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_may_not_be_written_is_not(what: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "f").write_bytes(OLD)
        (folder / "f").chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        try:
            with as_nobody(), pytest.raises(CheckpointIOError, match="Permission denied") as caught:
                write_atomically(folder / "f", [NEW])
        finally:
            folder.chmod(0o700)
        assert caught.value.errno == errno.EACCES
        assert (folder / "f").read_bytes() == OLD
        assert os.listdir(folder) == ["f"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")
def test_what_another_user_has_in_a_sticky_folder_is_left_alone() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "f").write_bytes(OLD)
        (folder / "f").chmod(0o666)
        folder.chmod(0o1777)
        with as_nobody(), pytest.raises(CheckpointIOError, match="Operation not permitted") as caught:
            write_atomically(folder / "f", [NEW])
        assert caught.value.errno == errno.EPERM
        assert (folder / "f").read_bytes() == OLD
        assert os.listdir(folder) == ["f"]
        (folder / "f").chmod(0o644)
        write_atomically(folder / "f", [NEW])  # the owner
        with as_nobody():
            write_atomically(folder / "g", [NEW])
            write_atomically(folder / "g", [OLD])
        assert (folder / "f").read_bytes() == NEW
        assert sorted(os.listdir(folder)) == ["f", "g"]


# ---------------------------------------------------------------------------------- mode, owner, links


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0, 0o666)])
def test_a_new_file_gets_the_mode_that_the_umask_leaves(tmp_path: Path, mask: int, mode: int) -> None:
    with umask(mask):
        write_atomically(tmp_path / "f", [NEW])
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_an_old_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(OLD)
    path.chmod(mode)
    with umask(0o027):
        write_atomically(path, [NEW])
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_an_old_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(OLD)
    os.chown(path, 65534, 65533)
    write_atomically(path, [NEW])
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


def test_private_content_is_never_readable_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, modes, write = tmp_path / "f", [], os.write
    path.write_bytes(OLD)
    path.chmod(0o600)

    def watch(handle: int, data: memoryview) -> int:
        modes.append(stat.S_IMODE(os.fstat(handle).st_mode))
        return write(handle, data)

    monkeypatch.setattr(os, "write", watch)
    with umask(0):
        write_atomically(path, [NEW])
    assert modes == [0o600]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "f"
    if exists:
        target.write_bytes(OLD)
    (tmp_path / "second").symlink_to(target)
    (tmp_path / "first").symlink_to("second")
    write_atomically(tmp_path / "first", [NEW])
    assert target.read_bytes() == NEW
    assert not target.is_symlink()
    assert os.readlink(tmp_path / "first") == "second"
    assert os.readlink(tmp_path / "second") == str(target)
    assert os.listdir(tmp_path / "there") == ["f"]


# --------------------------------------------------------------------------- other writers, dead or alive


def test_the_next_write_removes_what_a_killed_one_left_whatever_its_target(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from xpnet.files.atomic import write_atomically\n"
        "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(sys.argv[1], [b'half'])"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name)], check=False)
    assert len(temporaries(tmp_path)) == 1  # the second removed what the first had left
    write_atomically(tmp_path / "c", [NEW])
    assert os.listdir(tmp_path) == ["c"]


def test_what_only_looks_like_a_temporary_stays(tmp_path: Path) -> None:
    for name in (".xpnet-0123456789abcdef.tmp.mine", "xpnet-0123456789abcdef.tmp", ".xpnet-012.tmp", "x.tmp"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".xpnet-0123456789abcdef.tmp").mkdir()
    (tmp_path / ".xpnet-1123456789abcdef.tmp").symlink_to(tmp_path / "x.tmp")
    os.mkfifo(tmp_path / ".xpnet-2123456789abcdef.tmp")
    before = sorted(os.listdir(tmp_path))
    write_atomically(tmp_path / "f", [NEW])
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "f"])


def test_a_writer_in_progress_is_not_disturbed(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"first "
        mine = temporaries(tmp_path)
        assert len(mine) == 1
        write_atomically(tmp_path / "f", [OLD])  # looks for stale files, and saves to the same place
        assert temporaries(tmp_path) == mine
        yield b"second"

    write_atomically(tmp_path / "f", chunks())
    assert (tmp_path / "f").read_bytes() == b"first second"
    assert os.listdir(tmp_path) == ["f"]


def test_a_temporary_removed_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, tried = files.fcntl.flock, []

    def late(handle: int, operation: int) -> None:
        for name in temporaries(tmp_path)[: len(tried) < 2]:
            (tmp_path / name).unlink()
            tried.append(name)
        flock(handle, operation)

    monkeypatch.setattr(files.fcntl, "flock", late)
    write_atomically(tmp_path / "f", [NEW])
    assert len(tried) == 2
    assert (tmp_path / "f").read_bytes() == NEW


def test_many_writers_at_once(tmp_path: Path) -> None:
    contents = [bytes([k]) * 3000 for k in range(6)]
    failures = []

    def work(content: bytes) -> None:
        try:
            for _ in range(15):
                write_atomically(tmp_path / "f", [content[:1000], content[1000:]])
                assert (tmp_path / "f").read_bytes() in contents
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert os.listdir(tmp_path) == ["f"]


# --------------------------------------------------------------------------------------------- reading


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, code in (
        (tmp_path / "missing", errno.ENOENT),
        (tmp_path, errno.EISDIR),
        (tmp_path / "pipe", errno.EINVAL),
        ("/dev/zero", errno.EINVAL),
        ("a\0b", errno.EINVAL),
    ):
        with pytest.raises(CheckpointIOError) as caught:
            open_regular(path)
        assert caught.value.errno == code
        assert repr(str(path)) in str(caught.value)
    (tmp_path / "f").write_bytes(NEW)
    with open_regular(tmp_path / "f") as file:
        assert file.read() == NEW
