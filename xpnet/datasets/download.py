"""Published files: taken from the disk or downloaded from one of several mirrors, and verified every time.

Downloads are https only, bounded in time and size, and checked before anything is stored.
"""

from __future__ import annotations

import functools
import hashlib
import io
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

import numpy as np
from numpy.typing import NDArray

from xpnet.datasets.idx import check_sha256, decode_idx, encode_header, read_idx
from xpnet.errors import DataError, DownloadError, IDXFormatError, IntegrityError, needs
from xpnet.files.atomic import write_atomically

T = TypeVar("T")


class PublishedFile(NamedTuple):
    """An IDX file that everyone has the same bytes of: name, decompressed size in bytes, and SHA-256.

    Size and hash are those of the decompressed file, because every mirror compresses differently.
    """

    name: str
    size: int
    sha256: str


ROUNDS = 3
SECONDS = 60.0
PAUSE = 0.5
SOCKET_TIMEOUT = 10.0


def load(
    file: PublishedFile, folder: Path, mirrors: Sequence[str], download: bool, redownload: bool,
    others: Sequence[Path] = (), **fetching: Any,
) -> NDArray[np.uint8]:  # fmt: skip
    """Return a published file as an array, from `folder`, one of `others` or else, where that is allowed, a mirror.

    A download is stored in `folder`. `fetching` goes to `fetch`. See `xpnet.datasets.mnist` for the other arguments
    and the errors.
    """
    # What a download stores comes first, so that it takes the place of a damaged .gz without touching it.
    spellings = [place / name for place in (folder, *others) for name in (file.name, f"{file.name}.gz")]
    path = next((p for p in spellings if p.exists()), None)
    if path is None and not download:
        raise DownloadError(
            f"{folder} has neither {file.name} nor {file.name}.gz, and download=False; "
            "put the file there or pass download=True"
        )
    if path is not None:
        try:
            return _read_published(path, file)
        except IntegrityError:
            if not redownload:
                raise

    def decode(content: bytes, url: str) -> NDArray[np.uint8]:
        array = decode_idx(io.BytesIO(content), url)
        check_sha256(array, file.sha256, url)
        return array

    # Deflate never makes data longer by more than a few bytes in each 16 KiB.
    array = fetch(f"{file.name}.gz", mirrors, decode, limit=file.size + file.size // 1024 + 1024, **fetching)
    store(folder / file.name, (encode_header(array.shape), array.reshape(-1).data))
    return array


def _read_published(path: Path, file: PublishedFile) -> NDArray[np.uint8]:
    advice = "pass redownload=True to replace it by a download, or put the published file there"
    try:
        return read_idx(path, sha256=file.sha256)
    except IDXFormatError as error:
        with open(path, "rb") as stored:
            actual = hashlib.file_digest(stored, "sha256").hexdigest()
        raise IntegrityError(
            f"{path}: expected SHA-256 {file.sha256} of the decompressed file, actual {actual} of the file as it is, "
            f"which cannot be decoded ({error}); it was not used: {advice}"
        ) from error
    except IntegrityError as error:
        raise IntegrityError(f"{error}: {advice}") from None


def fetch(
    filename: str,
    mirrors: Sequence[str],
    decode: Callable[[bytes, str], T],
    *,
    limit: int,
    seconds: float = SECONDS,
    pause: float = PAUSE,
    get: Callable[[str, int, float], bytes] | None = None,
) -> T:
    """Return `decode(content, url)` of the first mirror that delivers what `decode` accepts; it refuses by a DataError.

    The mirrors are addresses that end in a slash, in the order of preference. All are tried up to three times, with
    `pause` seconds of rest before the second round and twice as many before the third. `seconds` are the time for
    everything together; a mirror may use the share that leaves as much to each one after it. An answer longer than
    `limit` bytes is cut off there and refused. `get(url, limit, seconds)` is https through pooch if left out. If no
    mirror delivers, a DownloadError names each one's last failure.
    """
    if get is None:
        with needs("a download", "pooch", "datasets"):
            import_module("pooch")  # before any mirror is tried
        get = _get
    start = time.monotonic()
    causes: dict[str, Exception] = {}
    for round_ in range(ROUNDS):
        time.sleep(min(pause * round_, max(0.0, start + seconds - time.monotonic())))
        for i, mirror in enumerate(mirrors):
            left = start + seconds - time.monotonic()
            if left <= 0:
                break
            share = left / (len(mirrors) - i)
            url = mirror + filename
            try:
                return decode(_within(share, functools.partial(get, url, limit, share)), url)
            # A mirror can fail in every way that sockets, TLS, HTTP, and wrong content know.
            except Exception as error:
                causes[url] = error
    listed = "\n".join(f"  {url}: {type(error).__name__}: {error}" for url, error in causes.items())
    raise DownloadError(
        f"{filename} could not be downloaded, {time.monotonic() - start:.1f} s, at most {ROUNDS} attempts each:\n"
        f"{listed}\nCheck the connection and try again, or get the files by other means and pass directory=."
    )


def store(path: Path, content: Iterable[bytes | memoryview]) -> None:
    """Write the pieces to `path`, whole or not at all; a DownloadError if the system refuses."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise DownloadError(
            f"{path}: downloaded, but could not be stored: {error}; pass a writable directory="
        ) from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Run `call` in a thread of its own and wait at most `seconds`.

    A socket's timeout starts anew with every byte, so a server that sends one now and then would hold a plain call
    for ever. The thread is left behind then; it holds nothing but its own connection and ends with it.
    """
    outcome: queue.SimpleQueue[tuple[T, None] | tuple[None, BaseException]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((call(), None))
        except BaseException as error:
            outcome.put((None, error))

    threading.Thread(target=work, name="xpnet-download", daemon=True).start()
    try:
        value, error = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no complete answer within {seconds:.1f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # a pair without an error has a value


class _Sink(io.BytesIO):
    """Memory that refuses to grow beyond `limit` bytes or after `deadline`."""

    def __init__(self, limit: int, deadline: float) -> None:
        super().__init__()
        self._limit = limit
        self._deadline = deadline

    def write(self, piece: Any) -> int:
        if self.tell() + len(piece) > self._limit:
            raise DataError(f"the answer is longer than {self._limit} bytes")
        if time.monotonic() > self._deadline:
            raise TimeoutError("the time for this mirror is over")
        return super().write(piece)


def _get(url: str, limit: int, seconds: float) -> bytes:
    """Return the bytes at `url`; a redirect to anything but https is refused."""
    # Imported here: a user whose files are on the disk already needs no HTTP library.
    import pooch

    sink = _Sink(limit, time.monotonic() + seconds)
    responses: list[Any] = []

    def inspect(response: Any, **_: Any) -> None:
        responses.append(response)
        target = urljoin(response.url, response.headers.get("location", ""))
        if response.is_redirect and urlsplit(target).scheme != "https":
            raise DownloadError(f"redirect to {target} refused, it is not https")

    downloader = pooch.HTTPDownloader(
        chunk_size=1 << 16,
        timeout=min(SOCKET_TIMEOUT, seconds),
        # The files are compressed already; a server must not wrap them once more.
        headers={"Accept-Encoding": "identity"},
        hooks={"response": inspect},
    )
    try:
        downloader(url, sink, None)
    finally:
        for response in responses:
            response.close()
    return sink.getvalue()
