"""The .net files: what is written is read back, and nothing else is read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from integer_nets import random_network

from tcja_deploy.errors import FileFormatError
from tcja_deploy.exporters.lava.netfile import read_nets, write_net
from tcja_deploy.exporters.lava.schedule import parts


def described(layers):
    return [{"name": layer.name, "kind": layer.kind, "in_shape": list(layer.in_shape)} for layer in layers]


def assert_same(one, other):
    for name in ("name", "kind", "in_shape", "v_decay", "i_decay", "stride", "padding", "dilation", "groups"):
        assert getattr(one, name) == getattr(other, name), name
    for name in ("weight", "bias", "threshold"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def written(tmp_path):
    layers = random_network(1).stages
    write_net(tmp_path / "a.net", layers)
    return tmp_path / "a.net", layers


@pytest.mark.parametrize("seed", range(12))
def test_round_trip(seed, tmp_path):
    for k, part in enumerate(parts(random_network(seed, gates=seed % 3))):
        if part.layers:
            path = tmp_path / f"{k}.net"
            write_net(path, part.layers)
            for one, other in zip(read_nets([(path, described(part.layers))])[0], part.layers, strict=True):
                assert_same(one, other)


def edit(key, value):
    def change(file):
        del file[key]
        file[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["layer"].create_group("gate"), "numbered from 0"),
        (edit("layer/1/type", np.array([b"tcja"], "S10")), "skip unknown ones"),
        (edit("layer/1/type", b"conv"), "no readable type"),
        (edit("layer/1/groups", np.array([1])), "groups is not an array of integers with 0 axes"),
        (
            lambda f: f["layer/1/neuron"].__setitem__("messageBits", 8),
            "'messageBits' that the format does not know",
        ),
        (lambda f: f["layer/1"].__setitem__("delay", 3), "'delay' that the format does not know"),
        (lambda f: f.__delitem__("layer/1/neuron/vThMant"), "lacks 'vThMant'"),
        (edit("layer/1/neuron/type", np.array([b"SDNN"], "S10")), "only neurons of type LOIHI"),
        (edit("layer/1/shape", np.array([1, 2, 3])), "shape is not the size of the result"),
        (edit("layer/1/bias", np.array([1.5, 2.5])), "bias is not an array of integers"),
        (lambda f: f.__setitem__("extra", 1), "one plain group named 'layer'"),
        (edit("layer/1/bias", h5py.SoftLink("/layer/1/shape")), "links to something outside"),
        (edit("layer/1/bias", h5py.ExternalLink("/etc/passwd", "/x")), "links to something outside"),
    ],
)
def test_foreign_contents_are_refused(written, change, words):
    path, layers = written
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(FileFormatError, match=words):
        read_nets([(path, described(layers))])


def test_an_input_layer_with_more_than_a_shape_is_refused(written):
    """netx would leave its input port unconnected."""
    path, layers = written
    with h5py.File(path, "a") as file:
        file["layer/0"].create_group("neuron")
    with pytest.raises(FileFormatError, match="'neuron' that the format does not know"):
        read_nets([(path, described(layers))])


def test_data_in_other_files_are_refused(written, tmp_path):
    path, layers = written
    (tmp_path / "raw").write_bytes(bytes(400))
    with h5py.File(path, "a") as file:
        size = file["layer/1/bias"].size
        del file["layer/1/bias"]
        file["layer/1"].create_dataset("bias", (size,), "i4", external=[(str(tmp_path / "raw"), 0, 4 * size)])
    with pytest.raises(FileFormatError, match="links to data outside"):
        read_nets([(path, described(layers))])


def test_something_else_is_no_net(tmp_path):
    (tmp_path / "a.net").write_bytes(b"not HDF5 at all")
    with pytest.raises(FileFormatError, match="truncated or damaged"):
        read_nets([(tmp_path / "a.net", [])])
