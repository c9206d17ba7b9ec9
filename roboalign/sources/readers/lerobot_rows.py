"""Reads the rows of LeRobot's Parquet files: columns of one episode, and a stream of its images."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from roboalign.sources.errors import DamagedError, SourceError
from roboalign.sources.readers.columns import MISSING, VALUES
from roboalign.sources.readers.files import Files, inside, unreachable
from roboalign.sources.readers.lerobot_meta import BAD_PARQUET
from roboalign.types import Json

BATCH = 32
"""Number of image rows that are in memory at once."""


class DataFile:
    """A Parquet file with the rows of one or more episodes. A closed file reopens when it is read.

    Raises DamagedError if it cannot be read.
    """

    def __init__(self, files: Files, path: str) -> None:
        self.path = path
        self._files = files
        self._parquet: pq.ParquetFile | None = None
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._streamed, self._next = "", 0
        parquet = self._open()
        try:
            metadata = parquet.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self.columns = frozenset(parquet.schema_arrow.names)
            self._edges = np.cumsum([0, *sizes])
            if self._edges[-1] > VALUES:
                raise DamagedError(f"its data file {path} has {self._edges[-1]} rows, more than {VALUES}")
            self._episodes = self.column("episode_index", 0, int(self._edges[-1])).to_numpy()
        except DamagedError:
            self.close()
            raise
        except BAD_PARQUET as error:
            self.close()
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> Exception:
        if unreachable(error):
            return SourceError(f"{self._files.uri}: {self.path} cannot be fetched: {error}; run it again")
        return DamagedError(f"its data file {self.path} cannot be read: {error}")

    def _open(self) -> pq.ParquetFile:
        if self._parquet is None:
            try:
                self._file = self._files.open(self.path)
            except MISSING:
                raise DamagedError(f"its data file {self.path} is missing") from None
            try:
                self._parquet = pq.ParquetFile(self._file, page_checksum_verification=True)
            except BAD_PARQUET as error:
                self._file.close()
                raise self._broken(error) from None
        return self._parquet

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._parquet, self._streamed, self._batch = None, "", None

    def find(self, episode: int) -> tuple[int, int]:
        """Return the first row of an episode, and one past its last. Raises DamagedError if its rows are not
        contiguous."""
        rows = np.flatnonzero(self._episodes == episode)
        if not len(rows):
            return 0, 0
        first, stop = int(rows[0]), int(rows[-1]) + 1
        if stop - first != len(rows):
            raise DamagedError(f"its rows in {self.path} are not contiguous")
        return first, stop

    def column(self, name: str, first: int, stop: int) -> pa.ChunkedArray:
        """Return some rows of a column. Raises DamagedError if the file lacks the column or is damaged."""
        if name not in self.columns:
            available = ", ".join(sorted(self.columns)) or "nothing"
            raise DamagedError(f"its data file {self.path} has no column '{name}'; available: {available}")
        groups = self._groups(first, stop)
        try:
            table = self._open().read_row_groups(groups, columns=[name], use_threads=False)
        except BAD_PARQUET as error:
            raise self._broken(error) from None
        offset = int(self._edges[groups[0]]) if groups else 0
        return table.column(0).slice(first - offset, stop - first)

    def _groups(self, first: int, stop: int) -> list[int]:
        starts, stops = self._edges[:-1], self._edges[1:]
        return [int(group) for group in np.flatnonzero((starts < stop) & (stops > first))]

    def stream(self, name: str, rows: Sequence[int]) -> Iterator[Json]:
        """Yield the values of a column at increasing rows, with at most BATCH rows in memory; continuing a stream is
        cheap."""
        if name not in self.columns:
            self.column(name, 0, 0)
        for row in rows:
            is_buffered = self._batch is not None and self._next - len(self._batch) <= row
            if self._streamed != name or not (is_buffered or row >= self._next):
                self._restart(name, row)
            while row >= self._next:
                try:
                    self._batch = next(self._batches).column(0)
                except StopIteration:
                    raise DamagedError(f"its data file {self.path} ends before row {row}") from None
                except BAD_PARQUET as error:
                    self._streamed = ""
                    raise self._broken(error) from None
                self._next += len(self._batch)
            try:
                value = self._batch[row - self._next + len(self._batch)].as_py()
            except ValueError:
                raise DamagedError(f"its '{name}' in row {row} of {self.path} is not UTF-8") from None
            yield value

    def _restart(self, name: str, row: int) -> None:
        group = int(np.searchsorted(self._edges, row, side="right")) - 1
        groups = list(range(group, len(self._edges) - 1))
        self._batches = self._open().iter_batches(BATCH, row_groups=groups, columns=[name], use_threads=False)
        self._streamed, self._next, self._batch = name, int(self._edges[group]), None


def vectors(column: pa.ChunkedArray, key: str, width: int) -> NDArray[Any]:
    """Convert a column of scalars or lists to (rows, width). Raises DamagedError if a row has another width."""
    array = column.combine_chunks()
    kind = array.type
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    flat = array.flatten() if nested else array
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type) or pa.types.is_boolean(flat.type)):
        raise DamagedError(f"its '{key}' contains values of type {kind}, not numbers")
    if array.null_count or flat.null_count:
        empty = array.is_null().to_numpy(zero_copy_only=False)
        step = f" at step {int(np.flatnonzero(empty)[0])}" if empty.any() else ""
        raise DamagedError(f"its '{key}' has no value{step}")
    if nested and not pa.types.is_fixed_size_list(kind):
        counts = np.diff(array.offsets.to_numpy())
    else:
        counts = np.full(len(array), kind.list_size if nested else 1)
    wrong_rows = np.flatnonzero(counts != width)
    if len(wrong_rows):
        raise DamagedError(f"its '{key}' has width {counts[wrong_rows[0]]} at step {wrong_rows[0]}, not {width}")
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(array), width)


def image_bytes(value: Json, files: Files, step: int) -> bytes:
    """Return the encoded image of a row, which contains the bytes or names a file. Raises DamagedError."""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, bytes) and data:
        return data
    path = data if isinstance(data, str) else path
    if not isinstance(path, str) or not path:
        raise DamagedError(f"it has no image at step {step}")
    try:
        return files.bytes(inside(path))
    except MISSING:
        raise DamagedError(f"its image at step {step} is the file {path}, which is missing") from None
    except DamagedError as error:
        raise DamagedError(f"its image at step {step} {error}") from None
    except OSError as error:
        raise SourceError(f"{files.uri}: {path} cannot be fetched: {error}; run it again") from None
