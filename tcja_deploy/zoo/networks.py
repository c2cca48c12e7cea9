"""The networks of the TCJA paper (Zhu et al., TNNLS 2024), as its authors published them, and a small one.

Every builder takes what a user may have changed (channels, T, kernel sizes) and defaults to the published numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tcja_deploy.zoo.architecture import (
    Architecture,
    Attention,
    ConvBN,
    Dropout,
    FlattenLayer,
    Layer,
    LinearLayer,
    Pool,
    Spike,
)

__all__ = ["BUILDERS", "cifar10dvs", "dvs128", "events34", "fashion_mnist", "ncaltech101"]


def _blocks(channels: Sequence[int], kernels: Sequence[tuple[int, int] | None]) -> tuple[Layer, ...]:
    """Conv-BN-LIF, TCJA where `kernels` gives `(k_t, k_c)`, MaxPool."""
    layers: list[Layer] = []
    for c, kernel in zip(channels, kernels, strict=True):
        layers += [ConvBN(c), Spike(), *([Attention(*kernel)] if kernel else []), Pool("max")]
    return tuple(layers)


def _head(hidden: int, outputs: int) -> tuple[Layer, ...]:
    return (FlattenLayer(), Dropout(), LinearLayer(hidden), Spike(), Dropout(), LinearLayer(outputs), Spike())


def dvs128(
    channels: int = 128,
    T: int = 20,
    k_t: int = 4,
    k_c: int = 4,
    classes: int = 11,
    voters: int = 10,
    hidden: int | None = None,
) -> Architecture:
    """DVS128 Gesture: frames `[2, 128, 128]`, five convolutions, TCJA in the last two, vote of 10 over the time mean."""
    kernels = [None, None, None, (k_t, k_c), (k_t, k_c)]
    head = _head(4 * channels if hidden is None else hidden, max(voters, 1) * classes)
    return Architecture("dvs128", (2, 128, 128), T, _blocks([channels] * 5, kernels), head, voters)


def ncaltech101(
    channels: Sequence[int] = (64, 128, 256, 256, 512),
    T: int = 14,
    kernels: Sequence[tuple[int, int]] = ((4, 4), (4, 2)),
    classes: int = 101,
    hidden: int = 1024,
) -> Architecture:
    """N-Caltech101: frames `[2, 180, 240]`, TCJA in the last two blocks, output spikes `[T, N, classes]`.

    The published kernel sizes are `TCJA(4, 4)` and `TCJA(2, 4)` in the order (along channels, along time).
    """
    blocks = _blocks(list(channels), [None, None, None, *kernels])
    return Architecture("ncaltech101", (2, 180, 240), T, blocks, _head(hidden, classes))


def cifar10dvs(
    channels: Sequence[int] = (64, 128, 256, 256, 512, 512, 512, 512),
    T: int = 10,
    kernels: Sequence[tuple[int, int]] = ((4, 4), (4, 4)),
    classes: int = 10,
    size: int = 48,
) -> Architecture:
    """CIFAR10-DVS: frames `[2, 128, 128]` pooled to 48 x 48, eight convolutions with bias, average pools.

    TCJA follows the sixth and the eighth convolution. Output: membrane input of the last layer, `[T, N, classes]`, without a
    neuron (trained with TET).
    """
    conv: list[Layer] = [Pool("adaptive", size)]
    attention = dict(zip((5, 7), kernels, strict=True))
    for i, c in enumerate(channels):
        conv += [ConvBN(c, bias=True), Spike()]
        conv += [Attention(*attention[i])] if i in attention else []
        conv += [Pool("avg")] if i % 2 else []
    return Architecture(
        "cifar10dvs", (2, 128, 128), T, tuple(conv), (FlattenLayer(), LinearLayer(classes, bias=True))
    )


def fashion_mnist(
    channels: Sequence[int] = (128, 128),
    T: int = 8,
    kernels: Sequence[tuple[int, int]] = ((2, 2), (2, 2)),
    hidden: int = 512,
    classes: int = 10,
    voters: int = 10,
) -> Architecture:
    """Fashion-MNIST: an image `[1, 28, 28]` repeated T times, two blocks with TCJA, two dense layers, vote.

    The published code does not include this network and the paper gives no full layer list; channel counts, kernel sizes and
    the hidden layer are our assumption and therefore arguments.
    """
    head = _head(hidden, max(voters, 1) * classes)
    return Architecture(
        "fashion_mnist", (1, 28, 28), T, _blocks(list(channels), list(kernels)), head, voters, static=True
    )


def events34(
    channels: Sequence[int] = (32, 64, 64),
    T: int = 10,
    kernels: Sequence[tuple[int, int] | None] = (None, (4, 4), (4, 4)),
    hidden: int = 128,
    classes: int = 10,
    voters: int = 10,
) -> Architecture:
    """A small network for event frames `[2, 34, 34]` (N-MNIST): three convolutions, TCJA in the last two, vote."""
    return Architecture(
        "events34",
        (2, 34, 34),
        T,
        _blocks(list(channels), list(kernels)),
        _head(hidden, max(voters, 1) * classes),
        voters,
    )


BUILDERS: dict[str, Callable[..., Architecture]] = {
    f.__name__: f for f in (dvs128, ncaltech101, cifar10dvs, fashion_mnist, events34)
}
"""The zoo by name."""
