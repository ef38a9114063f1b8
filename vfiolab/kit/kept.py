"""What an audit keeps while it runs, a line for each file that is finished; and the output that is made of it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from vfiolab.kit.audit import Found, Row, Summary
from vfiolab.readers.errors import InputError

__all__ = ["COLUMNS", "Stamp", "kept_in", "part_file", "rows_of", "stamp_of", "writer"]

COLUMNS = ("file", "machine", "bdf", "name", "group", "with", "alone", "why", "refusal", "error")
Stamp = tuple[int, int] | None


def stamp_of(path: Path) -> Stamp:
    """Return what tells that a file was changed: size and time; of a sysfs tree that of its folder. None: done again each time."""
    with suppress(OSError):
        found = path.stat()
        return found.st_size, found.st_mtime_ns
    return None


@contextmanager
def part_file(out: Path | None, head: bytes) -> Iterator[IO[bytes]]:
    """Yield the file of what is finished, its first line read; it goes when all is done."""
    if out is None:
        with TemporaryFile() as file:
            yield file
        return
    path = Path(f"{out}.part")
    with path.open("a+b") as file:
        file.seek(0)
        first = file.readline()
        if first != head:
            if not head.startswith(first):  # not even one that was cut off
                raise InputError(
                    "is of an audit of another folder, with other options or by another version", where=str(path),
                    advice="ask the same again to go on with it, or remove it to begin anew",
                )  # fmt: skip
            file.truncate(0)
            file.write(head)
        yield file
    path.unlink()


def kept_in(part: IO[bytes]) -> dict[str, tuple[Stamp, int]]:
    """Return the files that are finished, each with its stamp and where its line begins; a line that was cut off is taken away."""
    found: dict[str, tuple[Stamp, int]] = {}
    at = part.tell()
    for line in part:
        if not line.endswith(b"\n"):
            part.truncate(at)
            break
        with suppress(ValueError, TypeError):
            file, stamp, *_ = json.loads(line)
            found[file] = (stamp[0], stamp[1]) if stamp else None, at
        at += len(line)
    return found


def rows_of(part: IO[bytes], places: Mapping[str, int], summary: Summary) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of all files in order, as `COLUMNS`, and count them."""
    for file, place in places.items():
        part.seek(place)
        try:
            name, _, warned, assumed, rows = json.loads(part.readline())
        except ValueError:
            name = None
        if name != file:
            raise InputError("another audit wrote to its part file at the same time", advice="start it again, alone")
        found = Found([Row(*row) for row in rows], warned, assumed)
        summary.add(found)
        yield from ((file.encode(errors="backslashreplace").decode(), *row) for row in found.rows)


def writer(out: Path | None) -> Callable[[Iterator[tuple[Any, ...]]], None]:
    """Return what writes rows to the output, which is there when all is written. InputError for an ending that says no format."""
    if out is None:
        return lambda rows: deque(rows, maxlen=0).clear()
    formats = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    if out.suffix not in formats:
        raise InputError("its ending says no format", where=f"-o {out.name}", advice=f"write {', '.join(formats)}")
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise InputError("a parquet file needs the package pyarrow", where=f"-o {out.name}", advice="pip install 'vfiolab[parquet]'")
    if out.is_dir():
        raise InputError("is a folder", where=f"-o {out}", advice="name a file")

    def write(rows: Iterator[tuple[Any, ...]]) -> None:
        new = Path(f"{out}.new")
        with new.open("wb") as file:
            formats[out.suffix](file, rows)
            file.flush()
            os.fsync(file.fileno())
        new.replace(out)

    return write


def _csv(file: IO[bytes], rows: Iterator[tuple[Any, ...]]) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([str(cell).lower() if isinstance(cell, bool) else cell for cell in row] for row in rows)
    text.detach()


def _jsonl(file: IO[bytes], rows: Iterator[tuple[Any, ...]]) -> None:
    file.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))).encode() + b"\n" for row in rows)


def _parquet(file: IO[bytes], rows: Iterator[tuple[Any, ...]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {"group": pa.int32(), "alone": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while chunk := list(islice(rows, 50_000)):
            columns = [pa.array(column, kind) for column, kind in zip(zip(*chunk, strict=True), schema.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
