"""The spiking VAE: sizes, sampling on the host, encoder and decoder in onnxruntime, and digits that can be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn
from untrained import settle

import tcja_deploy as td
from tcja_deploy.errors import UsageError
from tcja_deploy.frontend.trace import trace
from tcja_deploy.ir import Kind
from tcja_deploy.ir import ops as ir
from tcja_deploy.zoo.fsvae import Decoder, Encoder, Prior, Sizes, draw

ROOT = Path(__file__).parents[2]
ROUNDING = 1e-5
"""Difference of pictures in (0, 1) between kernels that sum some hundred float32 terms in another order."""


def test_draw_takes_one_of_the_k_spikes() -> None:
    spikes = (torch.rand(3, 4000, 2 * 5) < 0.4).float().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    z = draw(spikes, 5, generator)
    assert z.shape == (3, 4000, 2)
    rates = spikes.detach().unflatten(2, (2, 5)).mean(3)
    assert ((z == 0) | (rates > 0)).all()  # where no spike is, none can be drawn
    assert ((z == 1) | (rates < 1)).all()
    error = (z.detach() - rates).mean().abs()
    assert error < 4 * 0.5 / 24000**0.5  # four standard errors of a mean of Bernoulli variables
    z.sum().backward()
    assert spikes.grad is not None
    assert spikes.grad.unflatten(2, (2, 5)).sum(3).eq(1).all()  # one spike of each group gets the gradient
    again = draw(spikes, 5, torch.Generator().manual_seed(0))
    assert torch.equal(z, again)


def test_prior_holds_the_rates_of_each_class() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    spikes = torch.zeros(2, 4, 6)
    spikes[0, 1, :3] = 1  # first step, first latent of one sample of class 1: all three spikes
    spikes[1, 0, 3] = 1  # second step, second latent of one sample of class 0: one of three
    prior = Prior.fit(spikes, 3, labels)
    expected = torch.zeros(2, 2, 2)
    expected[1, 0, 0], expected[0, 1, 1] = 1 / 2, 1 / 6
    assert torch.allclose(prior.rates, expected)
    z = prior.draw(torch.ones(2000, dtype=torch.long), torch.Generator().manual_seed(1))
    assert z.shape == (2, 2000, 2)
    assert abs(float(z[0, :, 0].mean()) - 0.5) < 4 * 0.5 / 2000**0.5
    assert z[1].sum() == z[0, :, 1].sum() == 0


@pytest.mark.parametrize(
    ("image", "channels"), [((1, 8, 8), (4, 8)), ((3, 8, 16), (4,)), ((1, 16, 16), (4, 6, 8))]
)
def test_sizes(image: tuple[int, int, int], channels: tuple[int, ...]) -> None:
    sizes = Sizes(T=3, image=image, channels=channels, latent=5, k=2, kernels=(2, 3))
    encoder, decoder = Encoder(sizes).eval(), Decoder(sizes).eval()
    spikes = encoder(torch.rand(3, 2, *image))
    assert spikes.shape == (3, 2, 10)
    pictures = decoder(draw(spikes, 2))
    assert pictures.shape == (2, *image)
    for module, shape, kind in ((encoder, image, Kind.REAL), (decoder, (5,), Kind.BINARY)):
        graph = trace(module, timesteps=3, input_shape=shape, input_kind=kind)
        blocks = [n.op for n in graph if isinstance(n.op, ir.TCJA)]
        assert [(b.k_t, b.k_c) for b in blocks] == [(2, 3)] * len(channels)
    assert sum(isinstance(n.op, ir.ConvTranspose2d) for n in graph) == len(channels)
    assert sum(isinstance(n.op, ir.TimeMean) for n in graph) == 1


@pytest.mark.parametrize("image", [(1, 6, 8), (1, 8, 10)])
def test_a_picture_that_cannot_be_halved_is_refused(image: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="halved"):
        Sizes(image=image)


def onnx(
    module: nn.Module, shape: tuple[int, ...], kind: Kind, frames: torch.Tensor, path: Path
) -> torch.Tensor:
    graph = trace(module, timesteps=len(frames), input_shape=shape, input_kind=kind)
    agreement = td.export(graph, "onnx", path, data=[frames.numpy()]).agreement
    assert agreement is not None
    assert agreement.passed
    session = onnxruntime.InferenceSession(str(path))
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: frames.numpy()})[0])


def test_encoder_and_decoder_in_onnxruntime_with_random_numbers_from_outside(tmp_path: Path) -> None:
    sizes = Sizes(T=4, channels=(4, 8), latent=6, k=4)
    torch.manual_seed(0)
    encoder, decoder = Encoder(sizes), Decoder(sizes)
    frames = torch.rand(1, 8, *sizes.image).repeat(sizes.T, 1, 1, 1, 1)
    settle(encoder, frames)
    with torch.no_grad():
        spikes = encoder(frames)
    functional.reset_net(encoder)
    z = draw(spikes, sizes.k, torch.Generator().manual_seed(5))
    settle(decoder, z)
    with torch.no_grad():
        pictures = decoder(z)
    functional.reset_net(decoder)
    assert 0 < spikes.mean() < 1
    answered = onnx(encoder, sizes.image, Kind.REAL, frames, tmp_path / "encoder.onnx")
    assert torch.equal(answered, spikes)
    latent = draw(answered, sizes.k, torch.Generator().manual_seed(5))
    decoded = onnx(decoder, (sizes.latent,), Kind.BINARY, latent, tmp_path / "decoder.onnx")
    assert decoded.shape == (8, *sizes.image)
    assert (decoded - pictures).abs().max() < ROUNDING
    assert decoded.std(0).max() > 0.01  # the latent makes a difference


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Training of small tensors: on a busy machine a second thread makes it slower by far."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_generated_digits_can_be_read() -> None:
    """A nearest-neighbour classifier of real digits reads nine in ten made-up ones as what they should be; chance is one."""
    sys.path.insert(0, str(ROOT))
    from training import train_fsvae

    pictures, labels = train_fsvae.digits()
    sizes = Sizes()
    torch.manual_seed(0)
    encoder, decoder = Encoder(sizes), Decoder(sizes)
    chosen = pictures[: train_fsvae.TRAINING]
    train_fsvae.train(encoder, decoder, sizes, chosen, epochs=8, learning_rate=6e-3)
    prior = train_fsvae.fit_prior(encoder, sizes, chosen, labels[: train_fsvae.TRAINING])
    assert train_fsvae.recognised(decoder, prior, pictures, labels) > 0.9
    blank = float((pictures[train_fsvae.TRAINING :] - chosen.mean(0)).square().mean())
    error = train_fsvae.reconstruction(encoder, decoder, sizes, pictures[train_fsvae.TRAINING :])
    assert error < blank / 2  # the mean picture is what a network without a latent would give
