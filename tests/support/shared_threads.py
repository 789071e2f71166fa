"""Processes that share a training, as threads of this one: what is needed of mpi4py's communicator and of NCCL."""

import queue
import sys
import threading
import types

import numpy as np

from xpnet.parallel import MPI


class Request:
    """Something that is on its way; `Test` says whether it has come."""

    def __init__(self, take=None):
        self._take, self._done = take, take is None

    def Test(self):
        self._done = self._done or self._take()
        return self._done


class Aborted(BaseException):
    """What ends a thread where a process would be ended."""


class Communicator:
    """One of the ends between which arrays go; `boxes` are shared by all."""

    def __init__(self, rank, boxes):
        self.rank, self.boxes, self.sent = rank, boxes, 0

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return len(self.boxes)

    def Isend(self, array, to):
        assert array.flags.c_contiguous
        self.sent += array.nbytes
        self.boxes[self.rank][to].put(array.tobytes())
        return Request()

    def Irecv(self, array, of):
        assert array.flags.c_contiguous

        def take():
            try:
                array.view(np.uint8)[...] = np.frombuffer(self.boxes[of][self.rank].get_nowait(), np.uint8)
            except queue.Empty:
                return False
            return True

        return Request(take)

    def Abort(self, code):
        raise Aborted(code)


def together(size, work, **options):
    """Return what ``work(workers)`` returns on each of `size` threads, or what it raises."""
    boxes = [[queue.SimpleQueue() for _ in range(size)] for _ in range(size)]
    results = [None] * size

    def run(rank):
        try:
            results[rank] = work(MPI(communicator=Communicator(rank, boxes), **{"timeout": 20.0} | options))
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


class DeviceArray:
    """A vector on a device: its address is a memory of NumPy's."""

    def __init__(self, host):
        self.host, self.dtype, self.size, self.shape = host, host.dtype, host.size, host.shape
        self.data = types.SimpleNamespace(ptr=host)

    def __getitem__(self, place):
        return DeviceArray(self.host[place])

    def __setitem__(self, place, value):
        self.host[place] = value.host

    def __iadd__(self, other):
        self.host += other.host
        return self


IDENTITY = bytes(range(128))


def nccl(size, groups):
    """Return a module like `cupy.cuda.nccl`, whose arrays travel when a group ends, and notes the groups in a list."""
    boxes = [[queue.SimpleQueue() for _ in range(size)] for _ in range(size)]
    meeting = threading.Barrier(size)

    here = (
        threading.local()
    )  # what a thread's open group is to do: outside of one each call would wait for its other end

    class NcclCommunicator:
        def __init__(self, ndev, commId, rank, config=None):
            if type(commId) is not bytes:
                raise TypeError(f"Argument 'commId' has incorrect type (expected bytes, got {type(commId).__name__})")
            assert (ndev, commId) == (size, IDENTITY)
            self.rank, self.open = rank, True

        def send(self, pointer, count, kind, to, stream):
            assert (kind, stream, pointer.size) == (7, 99, count)
            groups.append((self.rank, to, count))
            here.sends.append(lambda: boxes[self.rank][to].put(pointer.copy()))

        def recv(self, pointer, count, kind, of, stream):
            assert (kind, stream, pointer.size) == (7, 99, count)
            here.receives.append(lambda: pointer.__setitem__(..., boxes[of][self.rank].get(timeout=20)))

        def destroy(self):
            meeting.wait(20)  # a process's memory is open to the others of its machine until these destroy theirs
            self.open = False

    def start():
        here.sends, here.receives = [], []

    def end():
        for travel in here.sends + here.receives:
            travel()
        del here.sends, here.receives

    return types.SimpleNamespace(
        available=True, NCCL_FLOAT32=7, NCCL_FLOAT64=8, get_unique_id=lambda: IDENTITY,
        NcclCommunicator=NcclCommunicator, groupStart=start, groupEnd=end,
    )  # fmt: skip


def stand_for_cupy(monkeypatch, module):
    """Let `module` be what ``import cupy.cuda.nccl`` finds; `cupy.cuda` itself does not have it, as CuPy's has not."""
    cuda = types.SimpleNamespace(get_current_stream=lambda: types.SimpleNamespace(ptr=99))
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=cuda))
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", module)
