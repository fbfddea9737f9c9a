"""Landing: source files as they are, into bronze, each file once.

Bronze has one Delta table per kind of file, append-only: every raw column as text, and before them ``_batch_id``,
``_source_file``, ``_row_number`` (the row's place in its file from 1, header and blank lines not counted),
``_ingested_at`` and ``_malformed`` (the line itself where it has too many or too few fields; its columns are null then).

A file is read by one task, as a stream: a gzip file cannot be split anyhow, and so row numbers need no counting pass.
Parallelism is the number of files; whoever lands something large lands it in parts.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import itertools
import logging
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.csv
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import Csv, LandedFile, Source
from conf.tables import LANDED_FILE
from spark_jobs.lake import Lake

if TYPE_CHECKING:
    from spark_jobs.manifest import Night

logger = logging.getLogger(__name__)

# Before the raw columns, so that Delta keeps their ranges (it does for the first 32 columns) and skips other batches.
ORIGIN = ("_batch_id", "_source_file", "_row_number", "_ingested_at", "_malformed")
_CHUNK_BYTES = 1 << 20
# Follows the last row of every file; where it does not come out again, an open quote has swallowed the end.
_END = "\x1eend of file\x1e"


class LandingError(RuntimeError):
    """A landed file cannot be taken in as it is; the message names it and says why."""


@dataclass(frozen=True)
class Landed:
    """A file that was, or is to be, taken into bronze. path is relative to the data folder; batch_id: which batch took it."""

    kind: str
    path: str
    sha256: str
    batch_id: str


@dataclass(frozen=True)
class Landing:
    """The files of a night. pending: in bronze, not mapped yet; mapped: before, each with the batch that mapped it."""

    pending: list[Landed]
    mapped: dict[Landed, str]

    @property
    def ever(self) -> list[Landed]:
        """All files that silver has or is about to get."""
        return [*self.mapped, *self.pending]

    def of_batch(self, batch_id: str) -> list[Landed]:
        """What a batch maps or has mapped, so that a batch that runs again answers for the same files."""
        return [*(file for file, mapped_by in self.mapped.items() if mapped_by == batch_id), *self.pending]


def landed_files(settings: Settings, source: Source, as_of_date: date) -> dict[str, str]:
    """The files knowable by the as-of date: relative path to SHA-256, in the order of their paths.

    Raises LandingError for an unreadable or empty folder, a missing required file and a late daily one.
    """
    paths = dict(sorted(
        (path, found) for kind in source.files for path, found in _knowable(settings, source, kind, as_of_date).items()
    ))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(paths, pool.map(sha256_of, paths.values()), strict=True))


def _knowable(settings: Settings, source: Source, kind: str, as_of_date: date) -> dict[str, Path]:
    """The files of one kind that are knowable by the as-of date, by relative path."""
    file = source.files[kind]
    folder = file.folder_in(settings.data_folder)
    asked = f"{' or '.join(file.path)} in {folder} ({source.line('files', kind)})"
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        raise LandingError(f"cannot read the data folder {folder}: set DATA= to a folder that this user can read")
    found = file.landed_in(settings.data_folder)
    days = {path: _landing_day(file, path) for path in found}
    if file.daily and as_of_date not in days.values():
        raise LandingError(f"late file: no {kind} of {as_of_date} has landed, looked for {asked}")
    knowable = {path: found[path] for path, day in sorted(days.items()) if day is None or day <= as_of_date}
    if file.required and not knowable:
        here = sorted(path.name for path in folder.iterdir())[:8]
        raise LandingError(f"missing file: no {kind} by {as_of_date}, looked for {asked}; the folder holds {here or 'nothing'}")
    return knowable


def _landing_day(file: LandedFile, path: str) -> date | None:
    try:
        return file.day(path)
    except ValueError as error:
        raise LandingError(str(error)) from error


def sha256_of(path: Path) -> str:
    """The digest by which a file is known."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LandingError(f"cannot read {path}: {error.strerror}") from error


def order_files(lake: Lake, source: Source, night: Night) -> list[tuple[Landed, Path]]:
    """The order files of a night that have not been loaded yet; orders go to PostgreSQL, not to bronze."""
    if source.orders is None:
        return []
    kind = source.orders.from_file
    files = _knowable(lake.settings, source, kind, night.as_of_date)
    plan = _plan(lake, kind, _of_night(files, night), [event for event in _events(lake) if event.kind == kind], night.batch_id)
    return [(landed, files[landed.path]) for landed in plan.fresh]


def _of_night(files: dict[str, Path], night: Night) -> dict[str, str]:
    """The digests of those files that the night was opened with; a file that landed since waits for the next night."""
    return {path: night.landed_files[path] for path in files if path in night.landed_files}


def bronze_path(settings: Settings, kind: str) -> str:
    """Where the bronze table of one kind of file lies."""
    return f"{settings.lake_url}/bronze/{kind}"


def land_files(lake: Lake, source: Source, night: Night) -> Landing:
    """Take every file of the night into bronze that is not there yet.

    A file is known by its digest: the same file again, under whatever name, changes nothing. Safe to run again after
    a kill: what is about to land is written down first, and the files of one kind land in one commit.
    Raises LandingError for a missing column, a broken gzip, a wrong encoding, a kind without a single row.
    """
    kinds = [kind for kind in source.files if source.orders is None or kind != source.orders.from_file]
    found = {kind: _knowable(lake.settings, source, kind, night.as_of_date) for kind in source.files}
    gone = sorted(set(night.landed_files) - {path for paths in found.values() for path in paths})
    if gone:
        raise LandingError(f"{gone[0]} was there when the night {night.batch_id} was opened, and is gone: open the night again")
    events = _events(lake)
    plans = {
        kind: _plan(lake, kind, _of_night(found[kind], night), [event for event in events if event.kind == kind], night.batch_id)
        for kind in kinds
    }
    fresh = [file for plan in plans.values() for file in plan.fresh]
    if fresh:
        columns = {kind: checked_columns(source, kind, [found[kind][file.path] for file in plan.fresh]) for kind, plan in plans.items()}
        for kind, plan in plans.items():
            if source.files[kind].required and plan.fresh and not plan.mapped and not plan.begun:
                _require_rows(source, kind, [found[kind][file.path] for file in plan.fresh])
        _write_events(lake, "landing", fresh)
        # A commit is mostly waiting for one driver thread: kinds land side by side.
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            list(pool.map(lambda kind: _append(lake, source, kind, plans[kind].fresh, found[kind], columns[kind]),
                          [kind for kind in kinds if plans[kind].fresh]))
    pending = [file for plan in plans.values() for file in (*plan.begun, *plan.fresh)]
    return Landing(pending, {file: mapped_by for plan in plans.values() for file, mapped_by in plan.mapped.items()})


def mark_mapping(lake: Lake, files: list[Landed], night: Night, silver_versions: Mapping[str, int]) -> None:
    """Write down that the rows of these files are about to go into silver, and the version of each table before."""
    if files:
        _write_events(lake, "mapping", [replace(file, batch_id=night.batch_id) for file in files], silver_versions)


def mark_mapped(lake: Lake, files: list[Landed], night: Night) -> None:
    """Write down that the rows of these files are in silver or in quarantine, and that the gates held."""
    if files:
        _write_events(lake, "mapped", [replace(file, batch_id=night.batch_id) for file in files])


def versions_before_failure(lake: Lake) -> dict[str, int]:
    """The versions of the silver tables before the first attempt at mapping that no gate has let pass since; else empty."""
    before: dict[str, int] = {}
    for event in _events(lake):
        if event.event == "mapped":
            before = {}
        elif event.event == "mapping":
            before = event.silver_versions | before
    return before


def bronze_rows(lake: Lake, kind: str, files: list[Landed]) -> DataFrame:
    """The bronze rows of some files of one kind, each as the batch that took it landed it."""
    return lake.spark.read.format("delta").load(bronze_path(lake.settings, kind)).where(
        origin_of(files, "_batch_id", "_source_file")
    )


def origin_of(files: list[Landed], batch_id: str = "batch_id", source_file: str = "source_file") -> str:
    """The SQL condition that a row came from one of these files, as the batch that took it landed it."""
    batches: dict[str, list[str]] = {}
    for file in files:
        batches.setdefault(file.batch_id, []).append(_quoted(file.path))
    conditions = [f"({batch_id} = {_quoted(batch)} AND {source_file} IN ({', '.join(paths)}))" for batch, paths in batches.items()]
    return " OR ".join(conditions) or "false"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True)
class _Plan:
    """The files of one kind. mapped: all that silver has, and which batch mapped it; begun: in bronze, not mapped yet;
    fresh: to be landed."""

    mapped: dict[Landed, str]
    begun: list[Landed]
    fresh: list[Landed]


def _plan(lake: Lake, kind: str, digests: dict[str, str], events: list[Row], batch_id: str) -> _Plan:
    begun = {event.sha256: Landed(kind, event.path, event.sha256, event.batch_id) for event in events if event.event == "landing"}
    mapped = {event.sha256: event.batch_id for event in events if event.event == "mapped"}
    first: dict[str, str] = {}
    for path, digest in digests.items():
        if first.setdefault(digest, path) != path:
            logger.warning("%s is the same file as %s and changes nothing", path, first[digest])
    open_digests = [digest for digest in first if digest not in mapped]
    arrived = _arrived(lake, kind, [begun[digest] for digest in open_digests if digest in begun])
    return _Plan(
        mapped={begun[digest]: mapped_by for digest, mapped_by in mapped.items() if digest in begun},
        begun=[begun[digest] for digest in open_digests if begun.get(digest) in arrived],
        fresh=[Landed(kind, first[digest], digest, batch_id) for digest in open_digests if begun.get(digest) not in arrived],
    )


def _arrived(lake: Lake, kind: str, begun: list[Landed]) -> set[Landed]:
    """Which files, written down as about to land, have rows in bronze: asked only after a night that did not end well."""
    if not begun or not DeltaTable.isDeltaTable(lake.spark, bronze_path(lake.settings, kind)):
        return set()
    seen = {(row["_source_file"], row["_batch_id"]) for row in
            bronze_rows(lake, kind, begun).select("_source_file", "_batch_id").distinct().toLocalIterator()}
    return {file for file in begun if (file.path, file.batch_id) in seen}


def _events(lake: Lake) -> list[Row]:
    """A row per file and event, in the order in which they happened: sorted here, as one Spark job costs more than they do."""
    return sorted(lake.read(LANDED_FILE).collect(), key=attrgetter("at")) if lake.exists(LANDED_FILE) else []


def _write_events(lake: Lake, event: str, files: list[Landed], silver_versions: Mapping[str, int] | None = None) -> None:
    # Later than all before, whatever the clock of this machine says: their order tells what an ingest left behind.
    last = [event.at.astimezone(UTC) + timedelta(microseconds=1) for event in _events(lake)[-1:]]
    now = max([datetime.now(UTC), *last])
    rows = [(event, file.kind, file.path, file.sha256, file.batch_id, now, silver_versions) for file in files]
    lake.append(LANDED_FILE, lake.spark.createDataFrame(rows, LANDED_FILE.ddl))


def checked_columns(source: Source, kind: str, paths: list[Path]) -> list[list[str]]:
    """The columns of each file.

    Raises LandingError where a column is missing that the mapping asks for, naming file, column and mapping line.
    """
    wanted = source.raw_columns(kind)
    columns = [read_columns(path, source.files[kind].csv) for path in paths]
    for path, names in zip(paths, columns, strict=True):
        missing = [f"{name} (asked for by {line})" for name, line in wanted.items() if name not in names]
        if missing:
            raise LandingError(f"{path}: missing column {', '.join(missing)}; the file has {names}")
        # Delta knows no difference between upper and lower case.
        folded = [name.casefold() for name in names]
        twice = sorted({name for name in names if folded.count(name.casefold()) > 1 or name in ORIGIN})
        if twice:
            raise LandingError(f"{path}: column names that stand twice or are kept for landing: {twice}")
    return columns


def read_columns(path: Path, written: Csv) -> list[str]:
    """The column names of a CSV file: its header, or the mapping's names where it has none.

    Raises LandingError for a file that is empty, broken or in another encoding.
    """
    if not written.header:
        return list(written.column_names)
    names = next(iter(_first_rows(path, written, 1)), None)
    if not names:
        raise LandingError(f"{path}: an empty file, without so much as a header")
    return names


def _first_rows(path: Path, written: Csv, count: int) -> list[list[str]]:
    """The fields of a file's first lines that are not blank, its header among them."""
    with readable(path, written):
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rb") as stream, io.TextIOWrapper(stream, text_encoding(written), newline="") as text:
            return list(itertools.islice(filter(None, csv_rows(text, written)), count))


def csv_rows(text: Iterable[str], written: Csv, strict: bool = False) -> Iterator[list[str]]:
    """The fields of every line of a small CSV file, its header among them; strict: quotes that do not fit are csv.Error."""
    quoting = {"quotechar": written.quote} if written.quote else {"quoting": csv.QUOTE_NONE}
    return csv.reader(text, delimiter=written.delimiter, strict=strict, **quoting)


def _require_rows(source: Source, kind: str, paths: list[Path]) -> None:
    written = source.files[kind].csv
    if not any(len(_first_rows(path, written, 2)) > written.header for path in paths):
        named = ", ".join(map(str, paths))
        raise LandingError(f"{named}: a header and no rows, and {kind} is required ({source.line('files', kind)})")


def text_encoding(written: Csv) -> str:
    """The file's encoding; a byte order mark before UTF-8 is not part of the first column's name."""
    return "utf-8-sig" if codecs.lookup(written.encoding).name == "utf-8" else written.encoding


@contextmanager
def readable(path: Path, written: Csv) -> Iterator[None]:
    """Turns what can go wrong while reading a file into a LandingError that names it."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LandingError(f"{path}: truncated or broken gzip ({error}): let it be delivered again") from error
    except UnicodeDecodeError as error:
        raise LandingError(f"{path}: not {written.encoding} ({error}): set csv.encoding in the mapping or deliver it again") from error
    except (pa.ArrowInvalid, csv.Error) as error:
        if "UTF8" in str(error):
            raise LandingError(f"{path}: not {written.encoding} ({error}): set csv.encoding in the mapping or deliver it again") from error
        raise LandingError(f"{path}: not readable as CSV ({error})") from error
    except OSError as error:
        raise LandingError(f"{path}: cannot be read ({error.strerror or error})") from error


def _append(
    lake: Lake, source: Source, kind: str, files: list[Landed], paths: dict[str, Path], columns: list[list[str]]
) -> None:
    """Append the rows of files to the bronze table of their kind, in one commit."""
    tasks = [(file.path, paths[file.path], file.sha256, names) for file, names in zip(files, columns, strict=True)]
    rows = read_files(lake.spark, tasks, source.files[kind].csv).select(
        F.lit(files[0].batch_id).alias("_batch_id"), "_source_file", "_row_number",
        F.current_timestamp().alias("_ingested_at"), "_malformed", *(F.col(f"`{name}`") for name in union_of(columns)),
    )
    try:
        (
            rows.write.format("delta").mode("append").option("mergeSchema", "true")
            # Raw column names may hold spaces and brackets, which Parquet does not.
            .option("delta.columnMapping.mode", "name").save(bronze_path(lake.settings, kind))
        )
    except (PySparkException, Py4JJavaError) as error:
        named = re.search(r"LandingError: (.*)", str(error))
        if named:
            raise LandingError(named.group(1)) from error
        raise


def union_of(columns: list[list[str]]) -> list[str]:
    """The names of several headers, each once, in the order in which they first appear.

    Raises LandingError for names that differ in upper and lower case only, which Delta cannot tell apart.
    """
    union = list(dict.fromkeys(name for names in columns for name in names))
    spelled: dict[str, str] = {}
    for name in union:
        if spelled.setdefault(name.casefold(), name) != name:
            raise LandingError(f"files of one kind spell a column {spelled[name.casefold()]} and {name}: let them be delivered alike")
    return union


def read_files(spark: SparkSession, tasks: list[tuple[str, Path, str, list[str]]], written: Csv) -> DataFrame:
    """The rows of CSV files (name, place, SHA-256 and columns of each), one task a file; see read_rows."""
    union = union_of([columns for *_, columns in tasks])
    schema = ", ".join(["_source_file STRING", "_row_number BIGINT", "_malformed STRING", *(f"`{name}` STRING" for name in union)])

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.to_pylist():
                yield from read_rows(task["path"], Path(task["file"]), task["sha256"], task["columns"], union, written)

    listed = [(path, str(file), sha256, columns) for path, file, sha256, columns in tasks]
    return spark.createDataFrame(
        spark.sparkContext.parallelize(listed, len(listed)), "path STRING, file STRING, sha256 STRING, columns ARRAY<STRING>"
    ).mapInArrow(read, schema)


def read_rows(
    path: str, file: Path, sha256: str, columns: list[str], union: list[str], written: Csv
) -> Iterator[pa.RecordBatch]:
    """The rows of one CSV file as text: path, row number, malformed line, and the union's columns, null where absent.

    A row with too many or too few fields comes with the line alone. Raises LandingError for a broken gzip, a wrong
    encoding, a quote that is never closed, and a file that is not the one with the digest.
    """
    malformed: list[tuple[int, str]] = []

    def keep(row: pa.csv.InvalidRow) -> str:
        malformed.append((row.number - written.header, row.text))
        return "skip"

    rows, ended, digest = 0, False, hashlib.sha256()
    taken: set[int] = set()
    with readable(file, written), file.open("rb") as raw:
        stream = _Chunks(_text_chunks(raw, digest, file.suffix == ".gz", written, len(columns)))
        reader = pa.csv.open_csv(
            pa.PythonFile(stream, mode="r"),
            read_options=pa.csv.ReadOptions(
                use_threads=False, block_size=4 * _CHUNK_BYTES, column_names=None if written.header else columns
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=written.delimiter, quote_char=written.quote or False, newlines_in_values=True, invalid_row_handler=keep
            ),
            convert_options=pa.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False),
        )
        for batch in reader:
            if batch.num_rows and batch.column(0)[-1].as_py() == _END:
                ended, batch = True, batch.slice(0, batch.num_rows - 1)
            taken |= {number for number, _ in malformed}
            numbers = _free_numbers(rows, batch.num_rows, taken)
            rows = numbers[-1] if numbers else rows
            yield _record_batch(path, numbers, [None] * batch.num_rows, union, dict(zip(columns, batch.columns, strict=True)))
            if malformed:
                yield _record_batch(path, [number for number, _ in malformed], [line for _, line in malformed], union, {})
                malformed.clear()
    if not ended:
        raise LandingError(f"{file}: a quote that opens around row {rows} is never closed")
    if digest.hexdigest() != sha256:
        raise LandingError(f"{file}: has changed since the night was opened: open the night again")


def _free_numbers(last: int, count: int, taken: set[int]) -> list[int]:
    """The next count row numbers after last that no malformed row has."""
    return list(itertools.islice((number for number in itertools.count(last + 1) if number not in taken), count))


def _record_batch(
    path: str, numbers: list[int], lines: list[str | None], union: list[str], columns: dict[str, pa.Array]
) -> pa.RecordBatch:
    nothing = pa.nulls(len(numbers), pa.string())
    return pa.RecordBatch.from_arrays(
        [
            pa.array([path] * len(numbers), pa.string()), pa.array(numbers, pa.int64()), pa.array(lines, pa.string()),
            *(columns.get(name, nothing) for name in union),
        ],
        names=["_source_file", "_row_number", "_malformed", *union],
    )


def _text_chunks(raw: BinaryIO, digest: hashlib._Hash, is_gzip: bool, written: Csv, width: int) -> Iterator[bytes]:
    """A file as UTF-8, unpacked, in pieces, with one row of end marks behind its last; digest sees its own bytes."""
    decoder = codecs.getincrementaldecoder(text_encoding(written))("strict")
    hashed = _Hashed(raw, digest)
    source = gzip.GzipFile(fileobj=hashed, mode="rb") if is_gzip else hashed
    while chunk := source.read(_CHUNK_BYTES):
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()
    yield ("\n" + written.delimiter.join([_END] * width) + "\n").encode()


class _Hashed(io.RawIOBase):
    """A byte stream whose digest is taken while it is read."""

    def __init__(self, raw: BinaryIO, digest: hashlib._Hash) -> None:
        self.raw, self.digest = raw, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = self.raw.readinto(buffer)
        self.digest.update(memoryview(buffer)[:count])
        return count


class _Chunks(io.RawIOBase):
    """Pieces of bytes as one stream, which is what pyarrow reads."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.rest = chunks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while not self.rest:
            piece = next(self.chunks, None)
            if piece is None:
                return 0
            self.rest = piece
        taken, self.rest = self.rest[:len(buffer)], self.rest[len(buffer):]
        buffer[:len(taken)] = taken
        return len(taken)
