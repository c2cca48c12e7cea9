"""Damage to files of weights: opcodes of their pickles, entries of safetensors headers, headers of `.npy` files, tar files."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from random import Random

from mutations import SIZES, flip

_NAMES = (
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor", "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_meta_tensor_no_storage", "torch._utils _rebuild_nested_tensor",
    "torch._utils _rebuild_device_tensor_from_numpy", "torch._tensor _rebuild_from_type_v2", "torch FloatStorage",
    "torch HalfStorage", "torch QInt8Storage", "torch LongStorage", "torch.storage UntypedStorage",
    "torch.storage _load_from_bytes", "torch Size", "torch float32", "torch.nn.parameter Parameter",
    "collections OrderedDict", "collections defaultdict", "numpy._core.multiarray _reconstruct",
    "numpy.core.multiarray scalar", "numpy dtype", "numpy ndarray", "_codecs encode", "builtins set",
    "builtins dict", "builtins complex", "os system", "x y",
)  # fmt: skip
_SNIPPETS = (
    b"N", b"(", b"t", b"]", b"}", b")", b"l", b"d", b"R", b"b", b"a", b"s", b"u", b"e", b"0", b"1", b"2", b"o", b"Q",
    b"\x81", b"\x85", b"\x86", b"\x87", b"\x88", b"\x89", b"\x8f", b"\x90", b"\x91", b"\x93", b"\x92", b"\x94",
    b"h\0", b"q\0", b"K\5", b"K\0", b"J\xff\xff\xff\xff", b"G\x7f\xf8" + bytes(6), b"G\x3f\xf0" + bytes(6), b"U\0",
    b"X\3\0\0\0cpu", b"X\7\0\0\0storage", b"C\4abcd", b"\x8a\x09" + bytes(8) + b"\1", b"\x8a\x08" + b"\xff" * 8,
    b"\x82\1", b"\x97", b"B\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f",
)  # fmt: skip


def opcodes(pickled: bytes) -> list[bytes]:
    """A pickle as its opcodes, each with its argument."""
    starts = [at or 0 for _, _, at in pickletools.genops(pickled)]
    return [pickled[a:b] for a, b in zip(starts, [*starts[1:], starts[-1] + 1], strict=True)]


def damaged_pickle(pickled: bytes, rng: Random) -> bytes:
    """A pickle with opcodes taken out, doubled, exchanged, put in, or with other arguments."""
    codes = opcodes(pickled)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(codes))
        what = rng.randrange(8)
        if what == 0:
            del codes[at]
        elif what == 1:
            codes.insert(at, rng.choice(codes))
        elif what == 2:
            other = rng.randrange(len(codes))
            codes[at], codes[other] = codes[other], codes[at]
        elif what == 3:
            codes.insert(at, rng.choice(_SNIPPETS))
        elif what == 4:
            names = [i for i, code in enumerate(codes) if code[:1] == b"c"]
            module, name = rng.choice(_NAMES).split(" ")
            codes[rng.choice(names or [at])] = f"c{module}\n{name}\n".encode()
        elif what == 5:
            numbers = [i for i, code in enumerate(codes) if code[:1] in b"KMJ"]
            codes[rng.choice(numbers or [at])] = pickle.dumps(rng.choice(SIZES), protocol=2)[2:-1]
        elif what == 6:
            end = min(len(codes), at + rng.choice([2, 5, 20]))
            codes[at:end] = codes[at:end] * rng.choice([0, 2, 3])
        else:
            codes[at] = rng.choice(_SNIPPETS)
        codes = codes or [b"."]
    return b"".join(codes)


def pickle_opcodes(data: bytes, rng: Random) -> bytes:
    """A file with one of its pickles damaged: an archive, pickles in a row, or a tar file."""
    if data[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(m.filename, archive.read(m)) for m in archive.infolist()]
        out = io.BytesIO()
        with zipfile.ZipFile(
            out, "w", rng.choice([zipfile.ZIP_STORED] * 9 + [zipfile.ZIP_DEFLATED])
        ) as archive:
            for name, content in members:
                archive.writestr(name, damaged_pickle(content, rng) if name.endswith("data.pkl") else content)
        return out.getvalue()
    starts = _pickles(data)
    at = rng.choice(starts)
    end = at + len(b"".join(opcodes(data[at:])))
    changed = damaged_pickle(data[at:end], rng)
    if data[257:262] == b"ustar":  # members keep their place
        return data[:at] + changed[: end - at].ljust(end - at, b".") + data[end:]
    return data[:at] + changed + data[end:]


def _pickles(data: bytes) -> list[int]:
    """Where pickles of protocol 2 begin."""
    found, at = [], data.find(b"\x80\2")
    while at >= 0 and len(found) < 20:
        try:
            length = len(b"".join(opcodes(data[at:])))
        except Exception:  # these bytes are numbers
            length = 2
        else:
            found.append(at)
        at = data.find(b"\x80\2", at + length)
    return found


def archive_records(data: bytes, rng: Random) -> bytes:
    """An archive with a record cut, doubled, renamed, left out or named twice; the rest is as it was."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(m.filename, archive.read(m)) for m in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    what = rng.randrange(6)
    if what == 0:
        del members[at]
    elif what == 1:
        members[at] = name, content[: rng.randrange(len(content) + 1)]
    elif what == 2:
        members.append((name, flip(content, rng)))
    elif what == 3:
        members[at] = (
            rng.choice(["", "/", "../x", "a\0b", "\x1b[2J", name + "/", name * 300])[:60000],
            content,
        )
    elif what == 4:
        members[at] = name, rng.choice(members)[1]
    else:
        members[at] = name, rng.choice([b"big", b"little", b"", content * 3])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, value in members:
            archive.writestr(key, value)
    changed = out.getvalue()
    return flip(changed, rng) if rng.random() < 0.2 else changed


_DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I8",
    "U8",
    "BOOL",
    "C64",
    "F8_E4M3",
    "F4",
    "",
    "f32",
    7,
    None,
    ["F32"],
)


def safetensors_entries(data: bytes, rng: Random) -> bytes:
    """A safetensors file with one entry of another dtype, shape or place, or named twice."""
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    key = rng.choice([k for k in header if k != "__metadata__"])
    entry, what = header[key], rng.randrange(6)
    if what == 0:
        entry["dtype"] = rng.choice(_DTYPES)
    elif what == 1:
        entry["shape"] = [rng.choice(SIZES) for _ in range(rng.choice([0, 1, 2, 5, 40]))]
    elif what == 2:
        entry["data_offsets"] = [
            rng.choice([*SIZES, *entry["data_offsets"]]) for _ in range(rng.choice([0, 1, 2, 2, 2, 3]))
        ]
    elif what == 3:
        entry["shape"], entry["data_offsets"] = rng.choice(
            [([0], [0, 0]), ([0, 1 << 62], [0, 0]), ([], [0, 4]), ([1.0], [0, 4])]
        )
    elif what == 4:
        header["\x1b[2J" * rng.choice([1, 500])] = entry
    text = json.dumps(header)
    if what == 5:
        text = text[:-1] + f", {json.dumps(key)}: {json.dumps(entry)}}}"
    size = rng.choice([len(text.encode())] * 6 + [0, 1, (1 << 64) - 1, len(data)])
    return struct.pack("<Q", size) + text.encode() + data[8 + length :]


_DESCRIPTIONS = (
    "'<f4'", "'>i8'", "'|b1'", "'|O'", "'<U9999999'", "'<m8[s]'", "'|V8'", "'<c16'", "'f'", "''", "None", "7",
    "[('t', '<i8')]", "[('t', '<i8'), ('t', '<i8')]",
    "[('t', '<i8', (2, 3)), ('x', '<i2'), ('y', '<i2'), ('p', '?')]", "[('t', '|O')]", "('<f4', (2,))",
    "[('t', [('a', '<i8')])]", "((((", "'<i8'" * 2000, "{}", "[]", "['<f4']",
    "[('t', '<U5'), ('x', '<f8'), ('y', '>i2'), ('p', '?')]",
)  # fmt: skip
_SHAPES = (
    "()", "(0,)", "(-1,)", "(1, 2", "(2.0,)", "(True,)", "None", "[3]", "3", "('a',)", "(4611686018427387904, 4)",
    "(0, 9223372036854775808)", "(200, 4)", "(1,) * 9", "(" + "1, " * 70 + ")",
)  # fmt: skip


def npy_header(data: bytes, rng: Random) -> bytes:
    """A `.npy` whose header says something else."""
    version, length = data[6], struct.unpack("<H", data[8:10])[0]
    if data[:6] != b"\x93NUMPY" or version != 1:
        return flip(data, rng)
    text = data[10 : 10 + length].decode("latin1")
    parts = dict(zip(("descr", "order", "shape"), _parts(text), strict=True))
    what = rng.choice(["descr", "descr", "shape", "shape", "order", "all"])
    if what in ("descr", "all"):
        parts["descr"] = rng.choice(_DESCRIPTIONS)
    if what in ("shape", "all"):
        parts["shape"] = rng.choice(
            [*_SHAPES, str(tuple(rng.choice(SIZES) for _ in range(rng.randrange(5))))]
        )
    if what == "order":
        parts["order"] = rng.choice(["True", "1", "None", "'C'"])
    header = f"{{'descr': {parts['descr']}, 'fortran_order': {parts['order']}, 'shape': {parts['shape']}, }}".encode()
    if rng.random() < 0.1:
        header = flip(header, rng)
    header = header[:65000] + b" " * (-(10 + len(header[:65000]) + 1) % 64) + b"\n"
    return (
        data[:6]
        + bytes([rng.choice([1] * 9 + [2]), 0])
        + struct.pack("<H", len(header))
        + header
        + data[10 + length :]
    )


def _parts(header: str) -> tuple[str, str, str]:
    """Dtype, order and shape of a header as NumPy writes it."""
    descr, _, rest = header.partition("'descr': ")[2].partition(", 'fortran_order': ")
    order, _, rest = rest.partition(", 'shape': ")
    return descr, order, rest[: rest.index(")") + 1]


def in_members(change: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    """A damage that is done to one member of an archive."""

    def damage(data: bytes, rng: Random) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {m.filename: archive.read(m) for m in archive.infolist()}
        name = rng.choice(list(members))
        members[name] = change(members[name], rng)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for key, content in members.items():
                archive.writestr(key, content)
        return out.getvalue()

    return damage
