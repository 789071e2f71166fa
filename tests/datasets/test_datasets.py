"""MNIST and Fashion-MNIST from the disk, from a local server and from broken ones; data sets generated from a seed."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests

import xpnet.datasets
import xpnet.datasets.download
from xpnet.datasets import fashion_mnist, mnist, parity, quadrants, spirals, xor
from xpnet.datasets.download import PublishedFile, fetch, load
from xpnet.datasets.published import ImageFiles
from xpnet.errors import ConfigError, DownloadError, IntegrityError

MODULE = import_module("xpnet.datasets.mnist")  # its function hides it as an attribute
FASHION = import_module("xpnet.datasets.fashion")
MNIST = Path(__file__).parents[2] / "examples" / "data" / "mnist"
FASHION_2000 = MNIST.with_name("fashion_mnist_2000")
NAMES = [
    f"{part}-{kind}-ubyte"
    for part, kind in (
        ("train", "images-idx3"),
        ("train", "labels-idx1"),
        ("t10k", "images-idx3"),
        ("t10k", "labels-idx1"),
    )
]

ARRAY = np.random.default_rng(0).integers(0, 256, (50, 6, 7), dtype=np.uint8)
RAW = struct.pack(">4B3I", 0, 0, 8, 3, *ARRAY.shape) + ARRAY.tobytes()
GZ = gzip.compress(RAW)
SMALL = PublishedFile("small-idx3-ubyte", len(RAW), hashlib.sha256(RAW).hexdigest())
OTHER = gzip.compress(RAW[:-1] + bytes([RAW[-1] ^ 1]))


def published(folder: Path) -> list[PublishedFile]:
    """Return what the four files of a folder hold, decompressed."""
    contents = [gzip.decompress((folder / f"{name}.gz").read_bytes()) for name in NAMES]
    return [PublishedFile(n, len(c), hashlib.sha256(c).hexdigest()) for n, c in zip(NAMES, contents, strict=True)]


# --- MNIST on the disk ---


@pytest.fixture(scope="module")
def loaded() -> tuple:
    return mnist(MNIST)


def test_mnist_shapes_and_types(loaded: tuple) -> None:
    (x_train, t_train), (x_test, t_test) = loaded
    assert (x_train.shape, t_train.shape) == ((60000, 784), (60000,))
    assert (x_test.shape, t_test.shape) == ((10000, 784), (10000,))
    assert {x_train.dtype, x_test.dtype} == {np.dtype("float32")}
    assert {t_train.dtype, t_test.dtype} == {np.dtype("int64")}
    assert all(a.flags.c_contiguous and a.flags.writeable for a in (x_train, t_train, x_test, t_test))


def test_mnist_values(loaded: tuple) -> None:
    (x_train, t_train), (x_test, t_test) = loaded
    # The first labels and the counts of each digit, as published everywhere.
    assert t_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert t_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(t_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(t_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    for x in (x_train, x_test):
        assert (x.min(), x.max()) == (0.0, 1.0)
    assert round(float(x_train.mean(dtype=np.float64)), 4) == 0.1307


def test_mnist_as_grey_levels_and_as_images(loaded: tuple) -> None:
    (images, _), (test_images, t) = mnist(MNIST, dtype="uint8", flatten=False)
    assert (images.shape, test_images.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert images.dtype == test_images.dtype == np.uint8
    (x_train, _), (x_test, t_test) = loaded
    every_level = np.arange(256) / 255
    assert np.array_equal(x_test, every_level.astype(np.float32)[test_images].reshape(10000, 784))
    assert np.array_equal(x_train[::97], every_level.astype(np.float32)[images[::97]].reshape(-1, 784))
    assert np.array_equal(t, t_test)


def test_mnist_from_files_with_and_without_gzip(tmp_path: Path, loaded: tuple) -> None:
    for name in NAMES[:2]:
        shutil.copy(MNIST / f"{name}.gz", tmp_path)
    for name in NAMES[2:]:
        (tmp_path / name).write_bytes(gzip.decompress((MNIST / f"{name}.gz").read_bytes()))
    for found, wanted in zip(mnist(str(tmp_path)), loaded, strict=True):
        for a, b in zip(found, wanted, strict=True):
            assert np.array_equal(a, b)


def test_a_directory_needs_no_http_library(monkeypatch: pytest.MonkeyPatch, loaded: tuple) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert np.array_equal(mnist(MNIST, download=False)[1][1], loaded[1][1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float16"}, "dtype must be 'float32' or 'uint8', got 'float16'"),
        ({"dtype": None}, "dtype must be .* got None"),
        ({"flatten": 1}, "flatten must be True or False, got 1"),
        ({"download": "no"}, "download must be True or False, got 'no'"),
        ({"redownload": None}, "redownload must be True or False, got None"),
        ({"redownload": True, "download": False}, "redownload=True needs download=True, got download=False"),
        ({"directory": "/nowhere/at all"}, "directory must be an existing folder, got '/nowhere/at all'"),
        ({"directory": MNIST / "README.md"}, "directory must be an existing folder, got '.*README.md'"),
    ],
)
def test_mnist_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        mnist(**arguments)


def test_published_hashes_and_mirrors() -> None:
    assert list(MODULE.FILES) == published(MNIST)
    for module in (MODULE, FASHION):
        assert [file.name for file in module.FILES] == NAMES
        assert len(set(module.MIRRORS)) >= 2
        assert all(m.startswith("https://") and m.endswith("/") for m in module.MIRRORS)


# --- a file of the cache that is missing or altered ---


def no_mirror(url: str, limit: int, seconds: float) -> bytes:
    raise ConnectionError("no route to host")


def forbidden(url: str, limit: int, seconds: float) -> bytes:
    pytest.fail(f"{url} was asked for")


def test_missing_file_without_download(tmp_path: Path) -> None:
    with pytest.raises(
        DownloadError, match=r"has neither small-idx3-ubyte nor small-idx3-ubyte.gz, and download=False"
    ):
        load(SMALL, tmp_path, ["https://a/"], False, False, get=forbidden)
    with pytest.raises(DownloadError, match=f"^{tmp_path} has neither train-images"):
        mnist(tmp_path, download=False)
    assert list(tmp_path.iterdir()) == []


ALTERED = {
    "pixel": ("small-idx3-ubyte", RAW[:-1] + bytes([RAW[-1] ^ 1]), hashlib.sha256(gzip.decompress(OTHER))),
    "pixel in gzip": ("small-idx3-ubyte.gz", OTHER, hashlib.sha256(gzip.decompress(OTHER))),
    "bit of gzip data": ("small-idx3-ubyte.gz", GZ[:99] + bytes([GZ[99] ^ 4]) + GZ[100:], None),
    "cut": ("small-idx3-ubyte", RAW[:1000], None),
    "html": ("small-idx3-ubyte.gz", b"<html>sign in to the network</html>", None),
    "empty": ("small-idx3-ubyte", b"", None),
}


@pytest.mark.parametrize("what", ALTERED)
@pytest.mark.parametrize("download", [True, False])
def test_altered_file_is_never_used_and_never_deleted(what: str, download: bool, tmp_path: Path) -> None:
    name, content, digest = ALTERED[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        load(SMALL, tmp_path, ["https://a/"], download, False, get=forbidden)
    actual = (digest or hashlib.sha256(content)).hexdigest()
    for part in (str(tmp_path / name), f"expected SHA-256 {SMALL.sha256}", f"actual {actual}", "redownload=True"):
        assert part in str(caught.value)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, content)]


@pytest.mark.parametrize("what", ALTERED)
def test_altered_file_stays_where_the_download_fails(what: str, tmp_path: Path) -> None:
    name, content, _ = ALTERED[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DownloadError, match="no route to host"):
        load(SMALL, tmp_path, ["https://a/"], True, True, get=no_mirror, pause=0)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [(name, content)]


@pytest.mark.parametrize("what", ALTERED)
def test_altered_file_is_replaced_where_that_is_allowed(what: str, tmp_path: Path) -> None:
    name, content, _ = ALTERED[what]
    (tmp_path / name).write_bytes(content)
    assert np.array_equal(load(SMALL, tmp_path, ["https://a/"], True, True, get=lambda *_: GZ), ARRAY)
    assert (tmp_path / "small-idx3-ubyte").read_bytes() == RAW
    # From here on nothing is asked of the network, not even with redownload=True.
    assert np.array_equal(load(SMALL, tmp_path, ["https://a/"], True, True, get=forbidden), ARRAY)


def test_mnist_passes_on_what_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        shutil.copy(MNIST / f"{name}.gz", tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-1] + b"\0"))
    with pytest.raises(IntegrityError, match="t10k-labels"):
        mnist(tmp_path)
    monkeypatch.setattr(xpnet.datasets.download, "_get", no_mirror)
    monkeypatch.setattr(xpnet.datasets.download.time, "sleep", lambda seconds: None)
    with pytest.raises(DownloadError, match="no route to host"):
        mnist(tmp_path, redownload=True)


# --- Fashion-MNIST: 2,000 of its images stand for all ---


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the carried images the published ones, and return a folder whose `caches` are the user's."""
    monkeypatch.setattr(FASHION, "FILES", ImageFiles(*published(FASHION_2000)))
    monkeypatch.setattr(FASHION, "PACKAGES", (tmp_path / "package",))
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "caches" / project)
    return tmp_path


def check_few(samples: tuple) -> None:
    (x, t), (x_test, t_test) = samples
    assert (x.shape, t.shape, x_test.shape, t_test.shape) == ((1600, 784), (1600,), (400, 784), (400,))
    # The first labels, as published everywhere.
    assert t[:5].tolist() == [9, 0, 0, 3, 0]
    assert t_test[:5].tolist() == [9, 2, 1, 1, 6]
    assert (x.dtype, x.min(), x.max()) == (np.float32, 0.0, 1.0)


def test_the_carried_images_are_not_taken_for_all_of_fashion_mnist() -> None:
    with pytest.raises(IntegrityError, match="c59f468a2f67"):
        fashion_mnist(FASHION_2000)


def test_fashion_mnist_from_a_directory(few: Path) -> None:
    check_few(fashion_mnist(FASHION_2000, download=False))
    assert not (few / "caches").exists()


def test_fashion_mnist_from_the_folder_of_a_package(few: Path) -> None:
    shutil.copytree(FASHION_2000, few / "package")
    check_few(fashion_mnist(download=False))
    assert not (few / "caches").exists()
    # What lies in the cache comes first, damaged or not; and a given directory is the only place.
    cache = few / "caches" / "xpnet" / "fashion_mnist"
    cache.mkdir(parents=True)
    (cache / NAMES[0]).write_bytes(b"")
    with pytest.raises(IntegrityError, match=str(cache / NAMES[0])):
        fashion_mnist()
    (few / "empty").mkdir()
    with pytest.raises(DownloadError, match="empty has neither train-images"):
        fashion_mnist(few / "empty", download=False)


def test_a_damaged_file_of_a_package_is_replaced_in_the_cache(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FASHION_2000, few / "package")
    damaged = few / "package" / f"{NAMES[2]}.gz"
    right = damaged.read_bytes()
    damaged.write_bytes(b"not gzip")
    with pytest.raises(IntegrityError, match="t10k-images"):
        fashion_mnist()
    monkeypatch.setattr(xpnet.datasets.download, "_get", lambda url, limit, seconds: right)
    check_few(fashion_mnist(redownload=True))
    check_few(fashion_mnist(download=False))
    assert damaged.read_bytes() == b"not gzip"
    assert [p.name for p in (few / "caches" / "xpnet" / "fashion_mnist").iterdir()] == [NAMES[2]]


def test_fashion_mnist_is_downloaded_to_the_cache(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def get(url: str, limit: int, seconds: float) -> bytes:
        asked.append(url)
        return (FASHION_2000 / url.rpartition("/")[2]).read_bytes()

    monkeypatch.setattr(xpnet.datasets.download, "_get", get)
    for _ in range(2):
        check_few(fashion_mnist())
    assert asked == [f"{FASHION.MIRRORS[0]}{name}.gz" for name in NAMES]


# --- mirrors, real sockets on 127.0.0.1 ---


class Handler(BaseHTTPRequestHandler):
    """The first part of the path says how to misbehave."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, name = self.path.strip("/").split("/")
        getattr(self, kind)(name)

    def answer(self, content: bytes, status: int = 200, length: int | None = None, **fields: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("Connection", "close")
        for field, value in fields.items():
            self.send_header(field.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True

    def mnist(self, name: str) -> None:
        self.answer((MNIST / name).read_bytes())

    def good(self, name: str) -> None:
        assert name == "small-idx3-ubyte.gz"
        assert self.headers["Accept-Encoding"] == "identity"
        self.answer(GZ)

    def unpacked(self, name: str) -> None:
        self.answer(RAW)

    def encoded(self, name: str) -> None:
        self.answer(GZ, Content_Encoding="gzip")

    def html(self, name: str) -> None:
        self.answer(b"<!DOCTYPE html><title>Sign in</title>")

    def missing(self, name: str) -> None:
        self.answer(b"<h1>404</h1>", status=404)

    def empty(self, name: str) -> None:
        self.answer(b"")

    def altered(self, name: str) -> None:
        self.answer(OTHER)

    def cut(self, name: str) -> None:
        self.answer(GZ[: len(GZ) * 57 // 100], length=len(GZ))

    def short(self, name: str) -> None:
        self.answer(GZ[: len(GZ) * 57 // 100])

    def hangup(self, name: str) -> None:
        self.close_connection = True

    def insecure(self, name: str) -> None:
        self.answer(b"", status=302, Location=f"http://127.0.0.1:{self.server.server_port}/good/{name}")

    def relative(self, name: str) -> None:
        self.answer(b"", status=301, Location=f"/good/{name}")

    def secure(self, name: str) -> None:
        self.answer(b"", status=307, Location=f"https://127.0.0.1:{self.server.server_port}/good/{name}")

    def endless(self, name: str) -> None:
        self.send_response(200)
        self.end_headers()
        # Without a length the answer ends when the connection does; 100 MiB stand for endless.
        for _ in range(100):
            self.wfile.write(bytes(1 << 20))
        self.close_connection = True

    def slow_loris(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(GZ)))
        self.end_headers()
        for i in range(len(GZ)):
            self.wfile.write(GZ[i : i + 1])
            if self.server.over.wait(0.02):
                break
        self.close_connection = True

    def stalled(self, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(GZ)))
        self.end_headers()
        self.server.over.wait(60)
        self.close_connection = True

    def steady(self, name: str) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(200):
            self.wfile.write(bytes(1 << 16))
            if self.server.over.wait(0.02):
                break
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.over = threading.Event()

    def mirror(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{kind}/"

    def handle_error(self, request: object, address: object) -> None:
        error = sys.exception()
        # A client that refuses an answer hangs up; anything else is a mistake in this file.
        if not isinstance(error, ConnectionError):
            self.asked.append(repr(error))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.over.set()
        for left in threading.enumerate():
            if left.name == "xpnet-download":
                left.join(10)
        running.shutdown()
        thread.join()
    assert [line for line in running.asked if not line.startswith("/")] == []


def test_mnist_is_downloaded_to_the_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: tuple
) -> None:
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "caches" / project)
    monkeypatch.setattr(MODULE, "MIRRORS", (server.mirror("missing"), server.mirror("mnist")))
    for _ in range(2):
        for found, wanted in zip(mnist(), loaded, strict=True):
            for a, b in zip(found, wanted, strict=True):
                assert np.array_equal(a, b)
    # Each file once from either mirror; the second load came from the cache.
    assert server.asked == [f"/{mirror}/{name}.gz" for name in NAMES for mirror in ("missing", "mnist")]
    cache = tmp_path / "caches" / "xpnet" / "mnist"
    assert sorted(p.name for p in cache.iterdir()) == sorted(NAMES)
    assert hashlib.sha256((cache / NAMES[0]).read_bytes()).hexdigest() == MODULE.FILES.train_images.sha256


@pytest.mark.parametrize("kind", ["good", "unpacked", "encoded"])
def test_good_mirror(kind: str, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert np.array_equal(load(SMALL, folder, [server.mirror(kind)], True, False), ARRAY)
    assert [(p.name, p.read_bytes()) for p in folder.iterdir()] == [("small-idx3-ubyte", RAW)]


BAD_MIRRORS = {
    "html": "IDXFormatError.*begins with b'<!DO'",
    "missing": "HTTPError: 404",
    "empty": "IDXFormatError.*empty",
    "altered": f"IntegrityError.*expected SHA-256 {SMALL.sha256}.*actual {ALTERED['pixel'][2].hexdigest()}",
    "cut": "IncompleteRead",
    "short": "IDXFormatError.*truncated",
    "hangup": "ConnectionError",
    "insecure": "DownloadError: redirect to http://127.0.0.1.* refused, it is not https",
    "relative": "DownloadError: redirect to http://127.0.0.1.* refused, it is not https",
    "secure": "SSLError",
    "endless": "DataError: the answer is longer than",
}


@pytest.mark.parametrize("kind", BAD_MIRRORS)
def test_bad_mirror(kind: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=BAD_MIRRORS[kind]) as caught:
        load(SMALL, tmp_path, [server.mirror(kind)], True, False, pause=0)
    assert f"{server.mirror(kind)}small-idx3-ubyte.gz: " in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    # Asked three times, and nothing but this: a refused redirect was not followed.
    assert server.asked == [f"/{kind}/small-idx3-ubyte.gz"] * 3


def test_every_mirror_and_its_cause_is_named(server: Server, tmp_path: Path) -> None:
    mirrors = [server.mirror(kind) for kind in BAD_MIRRORS]
    with pytest.raises(DownloadError) as caught:
        load(SMALL, tmp_path, mirrors, True, False, pause=0)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("small-idx3-ubyte.gz could not be downloaded")
    assert [line.split(": ")[0].strip() for line in lines[1:-1]] == [f"{m}small-idx3-ubyte.gz" for m in mirrors]
    assert "directory=" in lines[-1]


def test_the_next_mirror_takes_over(server: Server, tmp_path: Path) -> None:
    mirrors = [server.mirror(kind) for kind in (*BAD_MIRRORS, "good")]
    assert np.array_equal(load(SMALL, tmp_path, mirrors, True, False, pause=0), ARRAY)
    assert [p.name for p in tmp_path.iterdir()] == ["small-idx3-ubyte"]


def test_slow_loris_is_given_up(server: Server, tmp_path: Path) -> None:
    # At this pace the answer would be complete after 40 seconds, and no single read waits longer than 0.02.
    with pytest.raises(DownloadError, match=r"TimeoutError: no complete answer within 0\.\d s"):
        load(SMALL, tmp_path, [server.mirror("slow_loris")], True, False, seconds=0.3)
    assert list(tmp_path.iterdir()) == []


def test_slow_loris_leaves_time_for_the_next_mirror(server: Server, tmp_path: Path) -> None:
    mirrors = [server.mirror("slow_loris"), server.mirror("good")]
    assert np.array_equal(load(SMALL, tmp_path, mirrors, True, False, seconds=4.0), ARRAY)
    assert [path.split("/")[1] for path in server.asked] == ["slow_loris", "good"]


@pytest.mark.parametrize(
    ("kind", "error"), [("stalled", requests.ConnectionError), ("steady", TimeoutError)], ids=["stalled", "steady"]
)
def test_a_connection_that_nobody_waits_for_ends_by_itself(kind: str, error: type, server: Server) -> None:
    with pytest.raises(error, match=r"timed out|the time for this mirror is over"):
        xpnet.datasets.download._get(server.mirror(kind) + "name", 1 << 40, 0.2)


# --- the bounds, on a clock of our own ---


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.asked = 1000.0, []
        monkeypatch.setattr(xpnet.datasets.download.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(xpnet.datasets.download.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def mirror(self, takes: float) -> object:
        def get(url: str, limit: int, seconds: float) -> bytes:
            self.asked.append((url, round(seconds, 3)))
            self.sleep(min(takes, seconds))
            raise ConnectionResetError("connection reset by peer")

        return get


@pytest.mark.parametrize(
    ("takes", "asked", "total"),
    [
        # Three rounds with pauses of 0.5 and 1 second.
        (0.0, [("a", 30), ("b", 60), ("a", 29.75), ("b", 59.5), ("a", 29.25), ("b", 58.5)], 1.5),
        # Time runs out in the second round.
        (25.0, [("a", 30), ("b", 35), ("a", 4.75), ("b", 4.75)], 60.0),
        # Mirrors that never answer share the time.
        (1e9, [("a", 30), ("b", 30)], 60.0),
    ],
)
def test_attempts_and_time_are_bounded(
    takes: float, asked: list, total: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    with pytest.raises(DownloadError, match=r"(?s)f could not.*a/f: ConnectionResetError.*b/f: ConnectionResetError"):
        fetch("f", ["a/", "b/"], lambda *_: None, limit=1, get=clock.mirror(takes))
    assert clock.asked == [(f"{mirror}/f", seconds) for mirror, seconds in asked]
    assert clock.now - 1000.0 == pytest.approx(total)


def test_interruption_goes_through(tmp_path: Path) -> None:
    def get(url: str, limit: int, seconds: float) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(SMALL, tmp_path, ["https://a/", "https://b/"], True, False, get=get)


@pytest.mark.parametrize("refused", ["os.replace", "os.fsync"])
def test_failure_to_store_leaves_nothing(refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(refused, full)
    with pytest.raises(DownloadError, match=r"small-idx3-ubyte: downloaded, .*No space left.*writable directory="):
        load(SMALL, tmp_path, ["https://a/"], True, False, get=lambda *_: GZ)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="could not be stored"):
        load(SMALL, tmp_path / "file" / "mnist", ["https://a/"], True, False, get=lambda *_: GZ)


# --- generated data ---


def test_quadrants() -> None:
    x, t = quadrants()
    assert (x.shape, x.dtype, t.shape, t.dtype) == ((100_000, 2), np.float32, (100_000,), np.int64)
    assert np.abs(x).max() <= 2
    # Uniform: each sixteenth of the square has its share, 6250 +- 5 standard deviations of 77.
    counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=4, range=[[-2, 2], [-2, 2]])
    assert np.abs(counts - 6250).max() < 385
    quadrant = {(True, True): 1, (False, True): 2, (False, False): 3, (True, False): 4}
    first = [quadrant[bool(a > 0), bool(b > 0)] for a, b in x[:1000]]
    assert t[:1000].tolist() == [int(q in (1, 3)) for q in first]
    assert set(first) == {1, 2, 3, 4}


def test_parity() -> None:
    (x, t), (x_test, t_test) = parity()
    assert (x.shape, t.shape, x_test.shape, t_test.shape) == ((700, 10), (700,), (324, 10), (324,))
    assert x.dtype == x_test.dtype == np.float32
    assert t.dtype == t_test.dtype == np.int64
    rows, classes = np.concatenate([x, x_test]), np.concatenate([t, t_test])
    numbers = [int("".join(str(int(bit)) for bit in row), 2) for row in rows]
    assert sorted(numbers) == list(range(1024))
    assert numbers[:20] != sorted(numbers[:20])
    assert classes.tolist() == [number % 2 for number in numbers]
    assert 0 < t_test.sum() < 324


@pytest.mark.parametrize(
    ("bits", "test", "held"), [(1, None, 1), (2, None, 1), (4, None, 20 * 16 // 64), (8, 255, 255), (10, 1, 1)]
)
def test_parity_split(bits: int, test: int | None, held: int) -> None:
    (x, t), (x_test, t_test) = parity(bits=bits, test=test)
    assert (len(x), len(t), len(x_test), len(t_test)) == (2**bits - held, 2**bits - held, held, held)
    assert len(np.unique(np.concatenate([x, x_test]), axis=0)) == 2**bits


def test_xor() -> None:
    x, t = xor()
    assert (x.dtype, t.dtype) == (np.float32, np.int64)
    assert x.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert t.tolist() == [0, 1, 1, 0]
    noisy, classes = xor(repeats=500, noise=0.1)
    assert (noisy.shape, classes.tolist()) == ((2000, 2), [0, 1, 1, 0] * 500)
    added = noisy - np.tile(x, (500, 1))
    # Standard error of the mean of 4000 numbers 0.0016, of their standard deviation 0.0011.
    assert abs(added.mean()) < 0.008
    assert abs(added.std() - 0.1) < 0.006


def test_spirals() -> None:
    x, t = spirals(samples=3001, classes=4, noise=0.0)
    assert (x.shape, x.dtype, t.shape, t.dtype) == ((3001, 2), np.float32, (3001,), np.int64)
    assert t.tolist() == [i % 4 for i in range(3001)]
    radius = np.hypot(x[:, 0], x[:, 1])
    assert radius.max() < 1.0
    assert abs(radius.mean() - 0.5) < 0.03
    # On each arm the angle is a function of the radius alone.
    inner = radius > 1e-3
    wound = np.arctan2(x[:, 0], x[:, 1]) - 4 * radius - 2 * np.pi * t / 4
    assert np.abs(np.exp(1j * wound[inner]) - 1).max() < 1e-3
    noisy, _ = spirals(samples=3001, classes=4, noise=0.2)
    turned = np.angle((noisy[:, 1] + 1j * noisy[:, 0])[inner] / (x[:, 1] + 1j * x[:, 0])[inner])
    assert abs(turned.std() - 0.2) < 0.015


MAKERS = {
    "quadrants": lambda seed: [quadrants(50, seed)],
    "parity": lambda seed: parity(6, seed=seed),
    "xor": lambda seed: [xor(5, 0.5, seed)],
    "spirals": lambda seed: [spirals(50, seed=seed)],
}


def bits_of(parts: list) -> bytes:
    return b"".join(array.tobytes() for part in parts for array in part)


@pytest.mark.parametrize("name", MAKERS)
def test_seed_fixes_every_bit_and_the_global_generator_is_left_alone(name: str) -> None:
    make = MAKERS[name]
    np.random.seed(5)  # noqa: NPY002
    assert bits_of(make(7)) == bits_of(make(np.int64(7)))
    assert len({bits_of(make(seed)) for seed in range(20)}) == 20
    assert np.random.get_state()[2] == 624  # noqa: NPY002
    assert np.random.random() == 0.22199317108973948  # noqa: NPY002


@pytest.mark.parametrize("bad", [-1, 1.0, True, "0", None, np.nan])
@pytest.mark.parametrize("name", MAKERS)
def test_seed_is_checked(name: str, bad: object) -> None:
    with pytest.raises(ConfigError, match="seed must be an integer >= 0, got"):
        MAKERS[name](bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quadrants(0), "samples must be an integer >= 1, got 0"),
        (lambda: quadrants(2.5), "samples must be an integer >= 1, got 2.5"),
        (lambda: parity(0), "bits must be an integer from 1 to 20, got 0"),
        (lambda: parity(21), "bits must be an integer from 1 to 20, got 21"),
        (lambda: parity(True), "bits must be an integer from 1 to 20, got True"),
        (lambda: parity(4, test=0), "test must be an integer from 1 to 15, got 0"),
        (lambda: parity(4, test=16), "test must be an integer from 1 to 15, got 16"),
        (lambda: xor(0), "repeats must be an integer >= 1, got 0"),
        (lambda: xor("3"), "repeats must be an integer >= 1, got '3'"),
        (lambda: xor(noise=-0.1), r"noise must be a finite number in \[0, 1e\+06\], got -0.1"),
        (lambda: xor(noise=np.nan), "noise must be .* got nan"),
        (lambda: xor(noise=np.inf), "noise must be .* got inf"),
        (lambda: xor(noise=1e7), "noise must be .* got 10000000.0"),
        (lambda: xor(noise="0.1"), "noise must be .* got '0.1'"),
        (lambda: xor(noise=True), "noise must be .* got True"),
        (lambda: spirals(noise=None), "noise must be .* got None"),
        (lambda: spirals(classes=1), "classes must be an integer >= 2, got 1"),
        (lambda: spirals(samples=2), "samples must be an integer >= 3, got 2"),
    ],
)
def test_arguments_are_checked(call: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
