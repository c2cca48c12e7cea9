"""AEDAT 2 and 3.1, as SpikingJelly and tonic read them."""

import ast
import csv
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from format_helpers import equal, read, some

from tcja_deploy.errors import DataError
from tcja_deploy.events import Events, make_events, open_data


def aedat2(events: Events) -> bytes:
    """As jAER writes a DVS128: bit 0 polarity, bits 1..7 and 8..14 the pixel, big endian."""
    header = (
        b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# created Thu Jan 01 00:00:00\r\n"
    )
    rows = zip(events.x.tolist(), events.y.tolist(), events.p.tolist(), events.t.tolist(), strict=True)
    return header + b"".join(struct.pack(">II", y << 8 | x << 1 | p, t) for x, y, p, t in rows)


def aedat3(events: Events, per_packet: int = 100, overflow: int = 0) -> bytes:
    """As cAER writes: packets of polarity events, and one of another type between them."""
    content = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    rows = list(zip(events.x.tolist(), events.y.tolist(), events.p.tolist(), events.t.tolist(), strict=True))
    for start in range(0, len(rows), per_packet):
        part = rows[start : start + per_packet]
        content += struct.pack("<HHIIIIII", 1, 1, 8, 4, overflow, len(part), len(part), len(part))
        content += b"".join(struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for x, y, p, t in part)
        content += struct.pack("<HHIIIIII", 0, 1, 8, 4, overflow, 1, 1, 1) + bytes(8)
    return content


def spikingjelly_functions(module: str, *names: str) -> dict[str, Callable]:
    """Functions of a SpikingJelly module by themselves: the module would import torchvision and torchaudio."""
    import importlib.util

    package = importlib.util.find_spec("spikingjelly")
    if package is None or not package.submodule_search_locations:
        pytest.skip("SpikingJelly is not installed")
    tree = ast.parse((Path(package.submodule_search_locations[0]) / "datasets" / module).read_text())
    wanted = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef) and node.name in names)
        or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant))
    ]
    space: dict = {"np": np, "Path": Path, "Union": __import__("typing").Union}
    exec(compile(ast.Module(wanted, []), module, "exec"), space)
    return space


def test_aedat2_as_spikingjelly_reads_cifar10_dvs(tmp_path: Path) -> None:
    (tmp_path / "a.aedat").write_bytes(aedat2(some(sensor=(128, 128))))
    parts = ("_read_bits", "_skip_header", "_load_raw_events", "_parse_raw_address", "_load_events")
    load = spikingjelly_functions("cifar10_dvs.py", *parts, "_load_origin_data")["_load_origin_data"]
    theirs = load(tmp_path / "a.aedat")
    found = read(tmp_path / "a.aedat")
    equal(found, make_events(**{key: theirs[key].astype(np.int64) for key in "txyp"}))
    assert found.sensor == (128, 128)


def test_aedat2_as_tonic_reads_it(tmp_path: Path) -> None:
    """Tonic leaves the pixel as it is and takes bit 0 for ON."""
    tonic_io = pytest.importorskip("tonic.io")
    (tmp_path / "a.aedat").write_bytes(aedat2(some(sensor=(128, 128))))
    version, start, _ = tonic_io.read_aedat_header_from_file(tmp_path / "a.aedat")
    raw = tonic_io.get_aer_events_from_file(tmp_path / "a.aedat", version, start)
    found = read(tmp_path / "a.aedat")
    np.testing.assert_array_equal(found.t, raw["timeStamp"])
    np.testing.assert_array_equal(127 - found.y, raw["address"] >> 1 & 0x7F)
    np.testing.assert_array_equal(127 - found.x, raw["address"] >> 8 & 0x7F)


@pytest.mark.parametrize("overflow", [0, 1])
def test_aedat3_as_spikingjelly_reads_it(tmp_path: Path, spikingjelly_utils: object, overflow: int) -> None:
    events = some(sensor=(128, 128))
    (tmp_path / "a.aedat").write_bytes(aedat3(events, overflow=overflow))
    theirs = spikingjelly_utils.load_aedat_v3(tmp_path / "a.aedat")  # type: ignore[attr-defined]
    found = read(tmp_path / "a.aedat")
    equal(found, make_events(**theirs))
    equal(found, make_events(events.t + overflow * 2**31, events.x, events.y, events.p))


@pytest.mark.parametrize("write", [aedat2, aedat3])
def test_a_cut_aedat_is_refused(tmp_path: Path, write: Callable[[Events], bytes]) -> None:
    content = write(some(sensor=(128, 128)))
    for size in (len(content) - 3, len(content) - 30 * 8 - 5):
        (tmp_path / "a.aedat").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"not a whole number|ends within a packet"):
            read(tmp_path / "a.aedat")


def test_a_packet_that_claims_more_than_the_file_is_refused(tmp_path: Path) -> None:
    claim = struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 2**30, 2**30, 2**30)
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + claim + bytes(64))
    with pytest.raises(DataError, match="ends within a packet"):
        read(tmp_path / "a.aedat")


def test_dvs128_gesture_as_published(tmp_path: Path, spikingjelly_utils: object) -> None:
    """Trials, labels and parts as SpikingJelly's DVS128Gesture cuts them."""
    events = some(2000, sensor=(128, 128))
    trials = {"user01_led": [(1, 0, 100_000), (11, 100_000, 200_000)], "user24_led": [(3, 50_000, 250_000)]}
    for name, rows in trials.items():
        (tmp_path / f"{name}.aedat").write_bytes(aedat3(events))
        with (tmp_path / f"{name}_labels.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("class", "startTime_usec", "endTime_usec"), *rows])
    (tmp_path / "gesture_mapping.csv").write_text("action,label\nhand_clapping,1\n")
    options = {"timesteps": 4, "sensor": (128, 128), "outputs": 11}
    whole = open_data(tmp_path, **options)
    assert whole.names == ("user01_led.aedat[0]", "user01_led.aedat[1]", "user24_led.aedat[0]")
    assert whole.labels is not None
    assert whole.labels.tolist() == [0, 2, 3]  # folders '0', '10' and '2', sorted as text
    loaded = spikingjelly_utils.load_aedat_v3(tmp_path / "user01_led.aedat")  # type: ignore[attr-defined]
    for index, (_, start, stop) in enumerate(trials["user01_led"]):
        mask = np.logical_and(loaded["t"] >= start, loaded["t"] < stop)
        cut = {key: column[mask] for key, column in loaded.items()}
        frames = spikingjelly_utils.integrate_events_by_fixed_frames_number(cut, "number", 4, 128, 128)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(whole[index][0], frames)
    for part, name in (("train", "user01_led"), ("test", "user24_led")):
        (tmp_path / f"trials_to_{part}.txt").write_text(f"{name}.aedat\n\n")
    with pytest.raises(DataError, match=r"holds the parts \['test', 'train'\]"):
        open_data(tmp_path, **options)
    assert open_data(tmp_path, split="test", **options).names == ("user24_led.aedat[0]",)
