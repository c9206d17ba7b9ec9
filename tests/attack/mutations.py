"""Structure-aware mutations: a document, table, file or pickle is changed at a place where a reader looks."""

import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.attack.outside import Outside

Mutate = Callable[[Path, random.Random, Outside], None]


def hostile(rng: random.Random, outside: Outside) -> Any:
    """A value that no writer would leave."""
    return rng.choice([
        None, True, -1, 0, 1, 2, 2**31, 10**12, 10**30, 1e-300, 1e300, float("nan"), float("inf"), "", " ", "x", "\0",
        "\x1b[2J", "a\ud800", "x" * 5000, f"../{outside.folder.name}/secret", f"{outside.folder}/secret",
        f"file://{outside.folder}/secret", f"{outside.address}/x", "{episode_index:02000000000d}", "{0.__class__}",
        "..", "../../../../etc/passwd", [], {}, [[]], [None], [[1], [1, 2]], {"a": {"a": {}}}, [0] * 1000,
        [10**9, 10**9], json.loads("[" * 200 + "]" * 200),
    ])  # fmt: skip


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """All (container, key) of a JSON document."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            places(value[key], found)
    return found


def mutate_document(value: Any, rng: random.Random, outside: Outside) -> Any:
    """A JSON document with up to three values replaced, left out or doubled."""
    for _ in range(rng.randint(1, 3)):
        known = places(value, [])
        if not known:
            return hostile(rng, outside)
        container, key = rng.choice(known)
        match rng.randrange(4):
            case 0 if isinstance(container, dict):
                container.pop(key, None)
            case 1 if isinstance(container, list):
                container.insert(key, container[key])
            case 2 if isinstance(container, dict):
                container[str(hostile(rng, outside))[:300]] = container[key]
            case _:
                container[key] = hostile(rng, outside)
    return value


def json_file(path: Path, rng: random.Random, outside: Outside) -> None:
    """A file with one document."""
    value = mutate_document(json.loads(path.read_text()), rng, outside)
    path.write_text(json.dumps(value))


def json_lines(path: Path, rng: random.Random, outside: Outside) -> None:
    """A file with a document a line."""
    lines = path.read_text().splitlines()
    place = rng.randrange(len(lines))
    lines[place] = json.dumps(mutate_document(json.loads(lines[place]), rng, outside))
    if rng.random() < 0.2:
        lines[rng.randrange(len(lines))] = rng.choice(["[" * 3000, "", "\x00", '{"a": 1', "NaN", '"\\ud800"'])
    path.write_text("\n".join(lines))


def raw_bytes(path: Path, rng: random.Random, outside: Outside) -> None:
    """Any file: cut off, bytes changed, a stretch overwritten, or something else in its place."""
    content = bytearray(path.read_bytes())
    match rng.randrange(4):
        case 0:
            content = content[: rng.randrange(len(content) + 1)]
        case 1:
            for _ in range(rng.randint(1, 8)):
                content[rng.randrange(len(content))] = rng.randrange(256)
        case 2:
            start = rng.randrange(len(content))
            content[start : start + 100] = rng.randbytes(len(content[start : start + 100]))
        case _:
            content = bytearray(rng.choice(scripts(outside)))
    path.write_bytes(content)


def scripts(outside: Outside) -> list[bytes]:
    """Texts by which FFmpeg would open other places, and a pointer of Git LFS."""
    media = f"{outside.folder}/secret.mp4"
    return [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{outside.address}/a.ts\n#EXT-X-ENDLIST\n".encode(),
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{media}\n#EXT-X-ENDLIST\n".encode(),
        f"ffconcat version 1.0\nfile '{media}'\n".encode(),
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n",
        b"",
        b"PK\x05\x06" + bytes(18),
        b"PAR1PAR1",
    ]


def parquet(path: Path, rng: random.Random, outside: Outside) -> None:
    """A table with a column replaced, left out, made null, or of another type."""
    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    place, rows = table.column_names.index(name), table.num_rows
    column: Any = table.column(name)
    match rng.randrange(6):
        case 0:
            table = table.drop_columns([name])
        case 1:
            values = column.to_pylist()
            values[rng.randrange(rows)] = None
            table = table.set_column(place, name, pa.array(values, column.type))
        case 2:
            texts = [f"../{outside.folder.name}/secret", f"{outside.folder}/secret", "\x1b[2J", "a\0", "x" * 9000]
            table = table.set_column(place, name, pa.array([rng.choice(texts)] * rows))
        case 3:
            table = table.set_column(place, name, pa.array([rng.choice([-1, 2**62, 0, 10**9])] * rows, pa.int64()))
        case 4:
            bad = pa.array([b"\xff\xfe"] * rows, pa.binary()).view(pa.string())
            table = table.set_column(place, name, bad)
        case _:
            lists = [[rng.choice([1e300, float("nan"), 0.0])] * rng.randrange(4) for _ in range(rows)]
            table = table.set_column(place, name, pa.array(lists, pa.list_(pa.float64())))
    if rng.random() < 0.2:
        table = table.slice(0, rng.randrange(rows + 1))
    pq.write_table(table, path)


def hdf5(path: Path, rng: random.Random, outside: Outside) -> None:
    """A data set or group that lies elsewhere, has another shape or type, or odd attributes."""
    with h5py.File(path, "a") as file:
        found: list[str] = []
        file.visit(found.append)
        name = rng.choice(found)
        item = file[name]
        other = str(outside.folder / "secret.hdf5")
        match rng.randrange(8):
            case 0:
                item.attrs[f"a{rng.randrange(9)}"] = rng.choice(["\x1b", "{" * 500, 3, [1, 2], "[[1]]", "9" * 5000])
            case 1:
                parent = item.parent
                for key in list(parent.attrs):
                    parent.attrs[key] = rng.choice([b"\xff", "", 1e300, -1])
            case choice:
                del file[name]
                replace(file, name, choice, other, outside, rng)


def replace(file: Any, name: str, choice: int, other: str, outside: Outside, rng: random.Random) -> None:
    """Something else at the place of a data set or group."""
    match choice:
        case 2:
            file.create_dataset(name, (8, 8), "u1", external=[(str(outside.folder / "secret"), 0, 64)])
        case 3:
            layout = h5py.VirtualLayout(rng.choice([(7, 7), (7, 32, 32, 3)]), "u1")
            layout[:] = h5py.VirtualSource(other, "x", layout.shape)
            file.create_virtual_dataset(name, layout)
        case 4:
            file[name] = rng.choice([h5py.ExternalLink(other, "/"), h5py.SoftLink("/data"), h5py.SoftLink(f"/{name}")])
        case 5:  # small in the file, large once unpacked
            whole = (7, 4000, 8000, 3)
            file.create_dataset(name, whole, "u1", chunks=whole, compression="gzip")
        case 6:
            shape = rng.choice([(2**40,), (7, 2**30), (2**31, 2, 2, 3), (7, 60000, 60000, 3)])
            file.create_dataset(name, shape, "u1", chunks=tuple(min(side, 64) for side in shape))
        case _:
            odd: list[Any] = [3.0, "text", np.zeros((0, 7)), np.zeros((7, 7), "V4"), h5py.Empty("f4"), [b"\xff"] * 7]
            file[name] = rng.choice(odd)


def npz(path: Path, rng: random.Random, outside: Outside) -> None:
    """An archive with an array replaced or left out, a false size in an array's header, or a changed directory."""
    with np.load(path) as file:
        arrays: dict[str, Any] = dict(file)
    name = rng.choice(list(arrays))
    odd: list[Any] = [
        np.zeros(()), np.zeros((2, 2)), np.array(["x"]), np.array(["\x1b[2J\0"]), np.full(7, np.inf), np.zeros(7, "V3"),
        np.zeros(0), np.zeros((0, 4)), np.array([1, None]), np.full((6, 2), 2**62), np.zeros((6, 16, 16, 3), "c8"),
    ]  # fmt: skip
    match rng.randrange(4):
        case 0:
            del arrays[name]
        case 1:
            arrays[f"../{outside.folder.name}/secret"] = arrays.pop(name)
        case _:
            arrays[name] = rng.choice(odd)
    np.savez(path, **arrays)
    if rng.random() < 0.3:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in [*arrays, name]:
                claim = npy_claim(rng) if each == name else npy_bytes(arrays.get(each, np.zeros(3)))
                archive.writestr(f"{each}.npy", claim)
    if rng.random() < 0.5:
        content = bytearray(path.read_bytes())
        for _ in range(3):
            content[-rng.randrange(1, min(400, len(content)))] = rng.randrange(256)
        path.write_bytes(content)


def npy_bytes(array: Any) -> bytes:
    """An array as a file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_claim(rng: random.Random) -> bytes:
    """An array file that claims another shape or type."""
    claims = ["(10000000000,)", "(-1,)", "()", "(2, 3)", "(1,) * 9", "'x'", "([],)", "(6, 60000, 60000, 3)"]
    kinds = ["<f8", "|O", "<U4", "V8", "<M8[D]", "nope", "|u1"]
    text = f"{{'descr': {rng.choice(kinds)!r}, 'fortran_order': False, 'shape': {rng.choice(claims)}, }}"
    header = text.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + rng.randbytes(64)


def mp4_field(path: Path, rng: random.Random, outside: Outside) -> None:
    """A video with some 32-bit numbers of its index replaced: sizes, counts, times, offsets."""
    content = bytearray(path.read_bytes())
    start = content.index(b"moov")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(start, len(content) - 4)
        value = rng.choice([0, 1, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 60000 << 16, rng.randrange(2**32)])
        content[at : at + 4] = value.to_bytes(4, "big")
    path.write_bytes(content)


def npy_header(path: Path, rng: random.Random, outside: Outside) -> None:
    """An array file that claims another shape or type."""
    body = npy_claim(rng)
    if path.suffix == ".npz":
        stream = io.BytesIO()
        np.savez(stream, rgb_static=np.zeros((2, 2, 3), np.uint8))
        body = stream.getvalue() if rng.random() < 0.5 else body
    path.write_bytes(body)
