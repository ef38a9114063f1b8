"""Audit many machines: on all cores or on a Dask cluster, kept as it goes on, written once it is whole.

What is finished is a line of a part file; from it the output is made. So a run that was stopped goes on, and the result is the same.
"""

from __future__ import annotations

import gc
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import vfiolab
from vfiolab.kit.asked import Asked
from vfiolab.kit.audit import Found, Row, Summary, audited, inputs, opened
from vfiolab.kit.kept import Stamp, kept_in, part_file, rows_of, stamp_of, writer
from vfiolab.readers.errors import InputError
from vfiolab.readers.listing import PciInput
from vfiolab.readers.pciids import pci_ids

__all__ = ["audit"]

_BATCH = 16
#: Batches that are with the workers at a time, for each of them: enough that none waits, and few texts in memory.
_AHEAD = 3
#: How often a batch may lose its worker before its files are tried one by one; and how often a file may then.
_LOSSES, _LONE_LOSSES = 2, 4
#: Seconds to wait for a scheduler.
_PATIENCE = 10
_Lines = list[tuple["_Task", bytes]]


class _Task(NamedTuple):
    """A file to be read: its path below the folder, what it was like before, and its content where the worker may not have the folder."""

    file: str
    stamp: Stamp
    given: PciInput | str | ValueError | None = None


class _Batch(NamedTuple):
    """Files that are done together; `losses`: how often their worker was lost."""

    tasks: list[_Task]
    losses: int


def audit(
    folder: Path, asked: Asked, out: Path | None = None, *, dask: str | None = None, tell: Callable[[int, int], None] = lambda *_: None
) -> Summary:
    """Audit all machines below a folder; write a row for each function to `out` (.csv, .jsonl, .parquet), which is replaced at the end.

    What is finished is kept in `out` with .part behind it, and not done again unless the file has changed since. `tell` hears how many of
    how many are finished. InputError (a ValueError): no folder, no such format, a part file of another audit; OSError: cannot write.
    """
    if not folder.is_dir():
        raise InputError("is no folder", where=str(folder), advice="`vfiolab groups` takes a single file")
    asked.check()
    out = None if out is None else Path(os.path.realpath(out))
    write = writer(out)
    own = () if out is None else (str(out), *(f"{out}{ending}" for ending in (".part", ".new")))
    files, passed = inputs(folder, own)
    head = json.dumps({"vfiolab audit": vfiolab.__version__, "folder": os.path.realpath(folder), "asked": repr(asked)}).encode() + b"\n"
    with _engine(dask) as engine, part_file(out, head) as part:
        kept, summary = kept_in(part), Summary(passed_over=passed)
        tasks = [_Task(file, stamp_of(folder / file), InputError(wrong) if wrong else None) for file, wrong in files.items()]
        left = [task for task in tasks if task.file not in kept or task.stamp is None or kept[task.file][0] != task.stamp]
        summary.kept = done = len(files) - len(left)
        tell(done, len(files))
        for finished in _finished(left, folder, asked, engine):
            for task, line in finished:
                kept[task.file] = task.stamp, part.seek(0, os.SEEK_END)
                part.write(line)
            part.flush()
            done += len(finished)
            tell(done, len(files))
        write(rows_of(part, {file: kept[file][1] for file in files}, summary))
    return summary


# the work


class _Engine(NamedTuple):
    """Who works: `new` makes an executor for `room` batches, which raises one of `lost` for a lost worker; `send`: contents too."""

    new: Callable[[], Executor]
    room: int
    lost: tuple[type[BaseException], ...]
    send: bool = False


@contextmanager
def _engine(dask: str | None) -> Iterator[_Engine]:
    """Yield all cores of this machine, or a Dask cluster. InputError if there is none at the address."""
    if dask is None:
        pci_ids()  # once, for all workers that are forked
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        yield _Engine(lambda: ProcessPoolExecutor(cores, initializer=_ready), _AHEAD * cores, (BrokenExecutor,))
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise InputError("--dask needs the package distributed", advice="pip install 'vfiolab[dask]'") from error
    try:
        connect: Any = Client  # it has no types
        client = connect(dask, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers: {error}", where=f"--dask {dask}") from error
    with client:
        versions = set(client.run(_version).values())
        if versions != {_version()}:
            found = f"its workers have vfiolab {', '.join(sorted(versions))}" if versions else "it has no worker"
            raise InputError(found, where=f"--dask {dask}", advice=f"start workers that have vfiolab {_version()}")
        room = _AHEAD * max(sum(client.nthreads().values()), 1)
        yield _Engine(partial(client.get_executor, pure=False), room, (KilledWorker,), send=True)


def _version() -> str:
    return vfiolab.__version__


def _ready() -> None:
    """Make a process a worker: Ctrl-C is the parent's business, and it ends with the parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: (connection.wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    pci_ids()
    gc.freeze()  # the list of names is no garbage; looking through it took a third of the time
    gc.set_threshold(20_000, 20, 100)


def _work(batch: list[_Task], folder: Path, asked: Asked) -> _Lines:
    return [(task._replace(given=None), _line(task, audited(folder / task.file, asked, task.given))) for task in batch]


def _line(task: _Task, found: Found) -> bytes:
    return json.dumps([task.file, task.stamp, found.warned, found.units_assumed, found.rows]).encode() + b"\n"


def _finished(tasks: list[_Task], folder: Path, asked: Asked, engine: _Engine) -> Iterator[_Lines]:
    """Yield what is finished, batch by batch. What was lost with a worker is done again; a file that its worker never outlives is an error.

    A batch that was lost several times is done file by file, one at a time, so that no other one is blamed.
    """
    queue = deque(_Batch(tasks[at : at + _BATCH], 0) for at in range(0, len(tasks), _BATCH))
    pending: dict[Future[_Lines], _Batch] = {}
    executor = engine.new()
    try:
        while queue or pending:
            try:
                while _may_start(queue, pending, engine.room):
                    sent = [_sent(task, folder) for task in queue[0].tasks] if engine.send else queue[0].tasks
                    pending[executor.submit(_work, sent, folder, asked)] = queue[0]
                    queue.popleft()
                done = wait(pending, return_when=FIRST_COMPLETED).done
                broken = any(isinstance(future.exception(), engine.lost) for future in done)
            except engine.lost:  # from submit
                broken = True
            if broken:  # whoever was lost with it
                done = wait(pending).done
                executor.shutdown(wait=False)
                executor = engine.new()
            for future in done:
                batch = pending.pop(future)
                yield from _lost(batch, queue) if isinstance(future.exception(), engine.lost) else [future.result()]
    except CancelledError as error:
        raise InputError("the Dask cluster is gone", advice="what is finished is kept: start again") from error
    finally:
        if not engine.send:
            executor.shutdown(cancel_futures=True)


def _may_start(queue: deque[_Batch], pending: Mapping[Any, _Batch], room: int) -> bool:
    if not queue or not pending:
        return bool(queue)
    return len(pending) < room and all(batch.losses < _LOSSES for batch in (queue[0], *pending.values()))


def _lost(batch: _Batch, queue: deque[_Batch]) -> Iterator[_Lines]:
    tasks, losses = batch.tasks, batch.losses + 1
    if losses == _LOSSES:
        queue.extend(_Batch([task], losses) for task in tasks)
    elif losses < _LONE_LOSSES:
        queue.append(_Batch(tasks, losses))
    else:
        killed = f"its worker was killed {_LONE_LOSSES - _LOSSES} times while it read this file alone: is there too little memory?"
        yield [(task, _line(task, Found([Row(Path(task.file).stem, error=killed)]))) for task in tasks]


def _sent(task: _Task, folder: Path) -> _Task:
    """Return the task with the content of its file, or with what is wrong with that."""
    try:
        return task._replace(given=task.given or opened(folder / task.file))
    except (ValueError, OSError) as error:
        return task._replace(given=InputError(str(error)))
