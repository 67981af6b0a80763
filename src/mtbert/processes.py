"""The processes that train one run together: how many there are, and what they tell each other.

``torchrun`` starts them. Each holds the whole model, and works on some shards of every step. A process that trains a
run alone has :data:`ALONE`, whose methods have nothing to do.

torch is imported inside functions, so that commands which only print a message do not load it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from mtbert.advice import see

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import Store

_Value = TypeVar("_Value")

# A process that ends is noticed at once, by its closed connections, and one that hangs by training/heartbeat.py. The
# others may have to wait for minutes while the first one reads from a slow disk, or writes to it.
LONGEST_WAIT = timedelta(minutes=30)


class Lost(ConnectionError):
    """Raised when another process of the run has ended, does not answer, or has other weights than this process."""


class Processes:
    """The processes that train one run, as seen by one of these processes.

    In this class, the run has only one process. In the subclass :class:`Connected`, it has several.

    Attributes:
        rank: The number of this process, counted from 0.
        size: The number of processes.
        launch: A random text that identifies the ``torchrun`` that started the processes. The text stays the same when
            ``torchrun`` restarts the processes. None if no ``torchrun`` started them, or if ``torchrun`` may not
            restart them (``--max-restarts 0``).
        restarted: Whether ``torchrun`` has started these processes in place of others that failed.
        met: Whether all processes are connected.
        told: A function. It takes a sentence that names a lost process, and returns the whole error message.
    """

    rank = 0
    size = 1
    launch: str | None = None
    restarted = False
    met = True
    told: Callable[[str], str] = staticmethod(lambda sentence: f"{sentence} Give the same command again.")

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    @property
    def partners(self) -> list[int]:
        """The ranks of the processes with which this process exchanges sums, one after the other.

        After the last exchange, this process has the sum over all processes.
        """
        return [self.rank ^ 1 << level for level in range(self.size.bit_length() - 1)]

    def block(self, items: int) -> range:
        """Returns the indices of the shards that this process works on.

        ``items`` is the number of all shards. It must be a multiple of the number of processes.
        """
        each = items // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def all(self, value: _Value) -> list[_Value]:
        """Returns a list with the value of each process, in the order of their ranks.

        Tensors that come from other processes are on the CPU.
        """
        return [value]

    def any(self, flag: bool) -> bool:
        """Returns whether any process gives True."""
        return flag

    def from_first(self, value: _Value) -> _Value:
        """Sends the value of the first process to all others, and returns it in every process."""
        return value

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sends the tensors of the first process to all others, and returns them in every process."""
        return dict(tensors)

    def trade(self, partner: int, value: _Value) -> _Value:
        """Sends ``value`` to the process ``partner``, and returns the value that ``partner`` sends back."""
        raise NotImplementedError

    def trade_tensor(self, partner: int, mine: Tensor, size: int) -> Tensor:
        """Sends ``mine`` to the process ``partner``, and returns the flat tensor of ``size`` numbers it sends back."""
        raise NotImplementedError

    def fail(self) -> None:
        """Stops the heartbeats of this process. A process calls this method when an error is about to end it.

        Without the heartbeats, the other processes of the run end too, even if this process hangs before its end.
        """

    def may_speak(self) -> bool:
        """Returns whether this process should print why the run ended. Only the first one that asks gets True."""
        return True

    @contextmanager
    def telling(self, told: Callable[[str], str]) -> Iterator[None]:
        """A context manager that sets the message about a lost process.

        ``told`` gets a sentence that says which process was lost, and returns the message.
        """
        yield

    def check(self, shards: int) -> None:
        """Raises ValueError if ``shards`` shards cannot be divided among the processes."""
        if shards % self.size:
            if self.size & (self.size - 1):
                below = 1 << (self.size.bit_length() - 1)
                raise ValueError(
                    f"train.shards: {shards} cannot be divided among {self.size} processes, whose number must be a "
                    f"power of two. Start {below} (torchrun --nproc-per-node), and set train.shards: {2 * below}. "
                    f"{see('processes')}"
                )
            raise ValueError(
                f"train.shards: {shards} cannot be divided among {self.size} processes. Set train.shards: {self.size}, "
                "or a larger power of two; any number of processes up to it then gives the same result. "
                f"{see('processes')}"
            )


ALONE = Processes()


class Connected(Processes):
    """One of several processes that train a run together, connected through ``torch.distributed``.

    All processes must call the same methods in the same order. The first call connects them.

    Attributes:
        failed: Whether :meth:`fail` was called.

    Raises:
        Lost: If another process has ended or does not answer. All methods raise this error.
    """

    def __init__(self, store: Store, rank: int, size: int) -> None:
        import torch

        self.rank, self.size, self._store = rank, size, store
        # While the processes are being connected, every call of the store itself waits. The clone does not.
        self._beats: Store = store.clone()  # type: ignore[attr-defined]  # torch's types do not have it
        self.failed, self.met = False, False
        self._backend = "gloo"
        if torch.cuda.is_available():
            self._backend = "cpu:gloo,cuda:nccl"
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())

    def all(self, value: _Value) -> list[_Value]:
        from torch import distributed

        from mtbert.profiling import timed

        found: list[Any] = [None] * self.size
        with timed("communication"), self._together():
            distributed.all_gather_object(found, _compact(value))
        return found

    def any(self, flag: bool) -> bool:
        import torch
        from torch import distributed

        from mtbert.profiling import timed

        flags = torch.tensor([flag], dtype=torch.uint8)
        with timed("communication"), self._together():
            distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags)

    def from_first(self, value: _Value) -> _Value:
        from torch import distributed

        found: list[Any] = [value]
        with self._together():
            distributed.broadcast_object_list(found, 0)
        first: _Value = found[0]
        return first

    def tensors_from_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch
        from torch import distributed

        kinds = self.from_first({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})
        found = {}
        for name, (shape, dtype) in kinds.items():
            found[name] = tensors[name].cpu().contiguous() if self.first else torch.empty(shape, dtype=dtype)
            with self._together():
                distributed.broadcast(found[name], 0)
        return found

    def trade(self, partner: int, value: _Value) -> _Value:
        import torch

        # As in torch.distributed's own calls for objects, the processes of a run trust each other. No file is read.
        mine = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        size = self.trade_tensor(partner, torch.tensor([len(mine)]), 1)
        found: _Value = pickle.loads(self.trade_tensor(partner, mine, int(size)).numpy().tobytes())
        return found

    def trade_tensor(self, partner: int, mine: Tensor, size: int) -> Tensor:
        from torch import distributed

        from mtbert.profiling import timed

        theirs = mine.new_empty(size)
        calls = ((distributed.isend, mine), (distributed.irecv, theirs))
        with timed("communication"), self._together():
            operations = [distributed.P2POp(call, tensor, partner) for call, tensor in calls if len(tensor)]
            for work in distributed.batch_isend_irecv(operations) if operations else ():
                work.wait()
        return theirs

    def beat(self, number: int) -> list[int]:
        """Adds ``number`` to the count of this process, and returns the counts of all processes. They begin at 0.

        While one thread of this process waits in another method, a second thread may call this method. After
        :meth:`fail`, nothing is added.
        """
        added = 0 if self.failed else number
        return [self._beats.add(f"beats {rank}", added if rank == self.rank else 0) for rank in range(self.size)]

    def fail(self) -> None:
        self.failed = True

    def may_speak(self) -> bool:
        try:
            return self._beats.add("mtbert failed", 1) == 1
        except RuntimeError:  # the store, which is in another process, has ended too
            return self.first

    @contextmanager
    def telling(self, told: Callable[[str], str]) -> Iterator[None]:
        before, self.told = self.told, told
        try:
            yield
        finally:
            self.told = before

    @contextmanager
    def _together(self) -> Iterator[None]:
        from torch import distributed

        try:
            if not distributed.is_initialized():
                distributed.init_process_group(
                    self._backend, store=self._store, rank=self.rank, world_size=self.size, timeout=LONGEST_WAIT
                )
            self.met = True
            yield
        except RuntimeError as error:
            # Gloo has no class for a connection that was closed, but its messages name its source files.
            of_connection = isinstance(error, distributed.DistError) or "gloo" in str(error)
            if not of_connection or "out of memory" in str(error):
                raise
            raise Lost(self.told(f"one of the {self.size} processes of this run was lost.")) from error


_connected: Processes | None = None


def connect() -> Processes:
    """Returns this process as one of the processes that ``torchrun`` started; :data:`ALONE` if there is only one.

    Raises:
        Lost: If another process does not answer.
    """
    global _connected
    size, most_restarts = (int(os.environ.get(name, "0")) for name in ("WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS"))
    if "TORCHELASTIC_RUN_ID" not in os.environ or (size <= 1 and not most_restarts):
        return ALONE
    if _connected is None:
        from torch.distributed import DistError
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        try:
            store, rank, size = next(rendezvous("env://", timeout=LONGEST_WAIT))
        except DistError:
            place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            raise Lost(f"{place}: torchrun does not answer there. Start it there, or give its --master-addr.") from None
        # The store belongs to torchrun. It outlives processes that failed, and still has their addresses.
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        _connected = Connected(PrefixStore(f"start {restarts}", store), rank, size) if size > 1 else Processes()
        if most_restarts:
            _connected.launch = store.compare_set("mtbert launch", "", uuid4().hex).decode()
            _connected.restarted = restarts > 0
    return _connected


def speaks() -> bool:
    """Returns whether this process should print why the run failed. Only the first process that asks gets True."""
    return _connected is None or _connected.may_speak()


def _compact(value: Any) -> Any:
    """Returns a copy of ``value`` in which tensors are on the CPU and hold no more memory than their own numbers."""
    from torch import Tensor

    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_compact, value))
    return value
