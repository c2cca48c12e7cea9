"""The scripts behind the trained networks: what is trained on, what ships, how sure a difference is."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from tcja_deploy.data import path
from tcja_deploy.frontend.load import load
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Kind

ROOT = Path(__file__).parents[3]
SHIPPED = {
    "ms_resnet_tcja_digits.tcja": "ms-resnet-tcja-output",
    "cross_convolution_digits.tcja": "cross-convolution",
    "ma_snn_space_digits.tcja": "ma-snn-s",
}


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The folders of scripts can be imported, here alone."""
    monkeypatch.syspath_prepend(str(ROOT))
    yield
    for module in [name for name in sys.modules if name.split(".")[0] in ("training", "benchmarks")]:
        del sys.modules[module]


@pytest.mark.filterwarnings("ignore::tcja_deploy.errors.SilenceWarning")  # untrained, on made-up frames
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network_is_one_of_those_that_the_script_trains(name):
    from training.witnesses import TIMESTEPS, WITNESSES

    made = trace(
        WITNESSES[SHIPPED[name]].make().eval(),
        timesteps=TIMESTEPS,
        input_shape=(2, 34, 34),
        input_kind=Kind.COUNT,
    )
    shipped = load(path(name))
    assert path(name).stat().st_size <= 1_000_000
    assert [(node.name, type(node.op), node.signal) for node in shipped] == [
        (node.name, type(node.op), node.signal) for node in made
    ]


def test_settings_are_chosen_on_recordings_that_are_trained_on():
    from training.train_witnesses import settings_split

    labels = torch.arange(10).repeat_interleave(9)
    frames = torch.arange(90, dtype=torch.uint8).reshape(90, 1, 1, 1, 1)
    kept, tested = settings_split((frames, labels))
    assert len(tested[1]) == 18
    assert set(tested[1].tolist()) == set(range(10))
    assert sorted([*kept[0].flatten().tolist(), *tested[0].flatten().tolist()]) == list(range(90))
    for some, wanted in (kept, tested):
        assert torch.equal(labels[some.flatten().long()], wanted)


def test_digits_recorded_again_show_the_held_out_images(monkeypatch):
    from sklearn.datasets import load_digits

    from training import train_witnesses

    few = load_digits()
    few.images, few.target = few.images[:40], np.arange(40) % 10
    monkeypatch.setattr(train_witnesses, "load_digits", lambda: few)
    monkeypatch.setattr(train_witnesses, "HELD_OUT", 10)
    train, test = train_witnesses.recordings()
    first, second = train_witnesses.recorded_again(2)
    assert len(train[1]) == 30
    for again in (first, second):
        assert torch.equal(again[1], test[1])
        assert not torch.equal(again[0], test[0])
        images = again[0].sum((1, 2)).flatten(1).float(), test[0].sum((1, 2)).flatten(1).float()
        alike = np.corrcoef(*images)[:10, 10:]  # of each of one with each of the other
        assert (alike.argmax(1) == np.arange(10)).all()
    assert not torch.equal(first[0], second[0])


def test_copies_of_a_recording_count_as_one_draw():
    from benchmarks.lava_witnesses import paired

    difference = np.random.default_rng(3).integers(-1, 2, (200, 7))
    mean, low, high = paired(difference)
    each = 100 * difference.mean(1)
    assert (low, high) == pytest.approx(stats.norm.interval(0.95, each.mean(), stats.sem(each)), abs=1e-3)
    assert paired(np.repeat(difference, 5, 1)) == pytest.approx((mean, low, high))


@pytest.mark.parametrize(
    ("least", "most", "wanted"),
    [
        (-0.4, 0.4, "yes"),
        (-0.5, 0.5, "yes"),
        (-0.1, 0.6, "yes, or better"),
        (0.6, 0.9, "yes, or better"),
        (-0.6, 0.4, "open"),
        (-2.0, 2.0, "open"),
        (-0.9, -0.6, "no"),
    ],
)
def test_an_interval_decides_whether_half_a_point_is_kept(least, most, wanted):
    from benchmarks.lava_witnesses import verdict

    assert verdict(least, most) == wanted


def test_recordings_move_to_places_that_differ():
    from benchmarks.lava_witnesses import moved

    frames = torch.zeros(1, 1, 1, 7, 7, dtype=torch.uint8)
    frames[..., 3, 3] = 1
    places = [frames.numpy().nonzero()[3:] for frames, _ in moved((frames, torch.zeros(1)))]
    assert len({(int(row[0]), int(column[0])) for row, column in places}) == 24
    assert all(abs(int(at[0]) - 3) <= 2 for place in places for at in place)


def test_the_page_has_the_tables_as_the_script_prints_them():
    from benchmarks.lava_witnesses import HEADER, verdict
    from training.witnesses import WITNESSES

    page = (ROOT / "docs" / "lava.md").read_text().splitlines()
    heads = [number for number, line in enumerate(page) if line == f"| {' | '.join(HEADER)} |"]
    assert len(heads) == 2  # digits, N-MNIST
    titles = [witness.title for witness in WITNESSES.values()]
    for head in heads:
        rows = []
        for line in page[head + 2 :]:
            if not line:
                break
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        for title, *_, difference, kept, _, lava in rows:
            assert title.removesuffix(", compensated").removesuffix(" *") in titles
            low, high = (float(end) for end in difference.split("(")[1].rstrip(")").split(" to "))
            assert kept == verdict(low, high), title
            assert lava.startswith("0 of "), title
        assert len(rows) == len({row[0] for row in rows})
    assert len(rows) >= 6
