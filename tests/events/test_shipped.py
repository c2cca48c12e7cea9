"""The shipped weights and recordings: layout, size, and the accuracy that their README states."""

import re
import sys
from pathlib import Path

import pytest

from tcja_deploy import data
from tcja_deploy.errors import UsageError
from tcja_deploy.events import open_data

ROOT = Path(__file__).parents[2]
# One recording in a hundred: another summation order may flip a spike, and a close vote with it.
ONE_RECORDING = 0.0101
CHECKPOINTS = ("digits_checkpoint_max.pth", "nmnist_checkpoint_max.pth")


@pytest.fixture
def tested(monkeypatch):
    """Accuracy of a shipped checkpoint in the SpikingJelly network that it was trained as."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("spikingjelly")
    monkeypatch.syspath_prepend(str(ROOT))
    from training import loop
    from training.network import TCJANet34

    def run(name, recordings):
        net = TCJANet34()
        net.load_state_dict(torch.load(data.path(name), weights_only=True)["net"])
        return loop.accuracy(net, loop.load(recordings))

    yield run
    for module in [name for name in sys.modules if name.split(".")[0] == "training"]:
        del sys.modules[module]


def test_every_shipped_file_is_named_and_described():
    folder = Path(data.__file__).parent
    assert {file.name for file in folder.iterdir() if file.suffix in (".pth", ".npz", ".tcja")} == set(
        data.NAMES
    )
    readme = (folder / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in data.NAMES)


def test_unknown_names_are_refused():
    with pytest.raises(UsageError) as caught:
        data.path("../errors.py")
    assert "nmnist_checkpoint_max.pth" in caught.value.hint


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_have_the_authors_layout(name):
    torch = pytest.importorskip("torch")
    assert data.path(name).stat().st_size <= 1.5e6
    content = torch.load(data.path(name), weights_only=True)
    assert set(content) == {"net", "optimizer", "lr_scheduler", "epoch", "max_test_acc"}
    shapes = {key: tuple(value.shape) for key, value in content["net"].items() if value.ndim > 1}
    assert shapes == {
        "conv.0.0.weight": (32, 2, 3, 3),
        "conv.3.0.weight": (64, 32, 3, 3),
        "conv.5.conv.weight": (10, 10, 4),
        "conv.5.conv_c.weight": (64, 64, 4),
        "conv.7.0.weight": (64, 64, 3, 3),
        "conv.9.conv.weight": (10, 10, 2),
        "conv.9.conv_c.weight": (64, 64, 4),
        "fc.2.0.weight": (128, 1024),
        "fc.5.0.weight": (100, 128),
    }


def test_shipped_recordings():
    recordings = open_data(data.path("digits_test_events.npz"), timesteps=10, sensor=(34, 34))
    assert data.path("digits_test_events.npz").stat().st_size < 600_000
    assert recordings.labels.tolist() == [digit for digit in range(10) for _ in range(10)]
    assert min(frames.sum() for frames, _ in recordings) > 500


def test_digits_accuracy(tested):
    recordings = open_data(data.path("digits_test_events.npz"), timesteps=10, sensor=(34, 34))
    reached = tested("digits_checkpoint_max.pth", recordings)
    assert reached == pytest.approx(_stated("digits_test_events.npz"), abs=ONE_RECORDING)


@pytest.mark.larger_sets
def test_nmnist_accuracy(tested, nmnist):
    recordings = open_data(nmnist / "Test", timesteps=10, sensor=(34, 34))
    reached = tested("nmnist_checkpoint_max.pth", recordings)
    assert reached >= 0.95
    assert reached == pytest.approx(_stated("nmnist_checkpoint_max.pth"), abs=ONE_RECORDING)


def _stated(name: str) -> float:
    """The accuracy on 100 recordings that the README states for a file."""
    readme = (Path(data.__file__).parent / "README.md").read_text()
    found = re.search(rf"\| `{name}` .*\| ([0-9.]+) % of 100 \|", readme)
    assert found is not None
    return float(found[1]) / 100
