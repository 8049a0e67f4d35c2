"""The spectrogram inside the graph is the one it claims to be, and the nets behind it are those of their papers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.architectures import bc_resnet, ds_cnn
from advisor.architectures.log_mel import FLOOR, GAIN, LogMel, bins, cosines, hann, triangles


def tone(hertz: float, rate: int, *, loud: float = 1.0, seconds: float = 1.0) -> torch.Tensor:
    time = np.arange(round(rate * seconds)) / rate
    return torch.from_numpy((loud * np.sin(2 * np.pi * hertz * time))[None].astype(np.float32))


@settings(deadline=None, max_examples=25)
@given(st.sampled_from([8000, 11200, 16000, 22000, 44100]), st.sampled_from([(0.01, 2), (0.01, 3), (0.02, 2)]), st.integers(0, 2**31))
def test_two_small_products_are_the_fourier_transform(rate: int, frame: tuple[float, int], seed: int) -> None:
    front = LogMel(rate, hop=frame[0], overlap=frame[1])
    waveform = torch.from_numpy(np.random.default_rng(seed).standard_normal((2, front.hop * 9)).astype(np.float32))
    frames = front.frames(waveform)
    assert frames.shape == (2, 10 - frame[1], front.hop * frame[1])
    wanted = torch.fft.fft((frames * front.window).double()).abs().square()[:, :, bins(front.rows, front.kept)]
    assert (front.power(frames) - wanted).abs().max() < 1e-5 * wanted.max()


def test_frames_overlap_by_whole_hops() -> None:
    front = LogMel(16000, hop=0.01, overlap=3)
    waveform = torch.arange(16000, dtype=torch.float32)[None]
    for number in (0, 1, 97):
        assert torch.equal(front.frames(waveform)[0, number], waveform[0, 160 * number : 160 * number + 480])


@pytest.mark.parametrize("rate", [8000, 16000])
def test_a_tone_is_loudest_in_its_own_band(rate: int) -> None:
    front = LogMel(rate)
    edges = 700 * (10 ** (np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + rate / 1400), 42) / 2595) - 1)
    for hertz in (300.0, 1000.0, 3000.0):
        band = int(front(tone(hertz, rate))[0, 20].argmax())
        assert edges[band] < hertz < edges[band + 2]


def test_levels_are_logarithms_of_power() -> None:
    front = LogMel(16000)
    loud, quiet = (front(tone(1000, 16000, loud=level))[0, 20].max().item() for level in (1.0, 0.1))
    assert loud - quiet == pytest.approx(np.log(100), abs=1e-3)  # 20 dB
    assert loud == pytest.approx(np.log(GAIN**2), abs=1.0)
    assert torch.all(front(torch.zeros(1, 16000)) == np.float32(np.log(FLOOR)))


def test_no_band_is_empty_and_none_reaches_beyond_its_limits() -> None:
    for size, rate, bands in ((320, 16000, 64), (480, 16000, 80), (240, 8000, 40)):
        filters = triangles(size, rate, bands=bands, low=20, high=3800)
        assert (filters.sum(axis=0) > 0).all()
        assert not filters[int(3800 * size / rate) + 2 :].any()


def test_cepstra_are_an_orthonormal_turn_of_the_bands() -> None:
    turn = cosines(40, 40)
    assert np.allclose(turn.T @ turn, np.eye(40))
    assert hann(480)[0] == 0 and hann(480).sum() == pytest.approx(2 * GAIN)


def test_half_precision_around_it_does_not_reach_the_spectrogram() -> None:
    front, waveform = LogMel(16000), tone(440, 16000, loud=0.01)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front(waveform), front(waveform.clone())) and front(waveform).dtype == torch.float32
        inside = front(waveform)
    assert torch.equal(inside, front(waveform))


def test_a_frame_that_does_not_fold_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be folded"):
        LogMel(7900, hop=0.01, overlap=1)


def test_ds_cnn_is_the_benchmarks_net_and_the_papers_medium_one() -> None:
    """MLPerf Tiny's: 22,604 weights once normalisation is folded into the convolutions."""
    net = ds_cnn.build(classes=12, rate=16000)
    norms = sum(part.norm.num_features for part in net.layers)  # folding leaves a bias of the two
    assert sum(p.numel() for p in net.parameters()) - norms == 22_604
    assert net.layers(net.front(torch.zeros(1, 16000)).unsqueeze(1)).shape == (1, 64, 25, 5)


@pytest.mark.parametrize(("width", "published"), [(1, 9_232), (3, 54_200), (8, 321_000)])
def test_bc_resnet_has_the_weights_of_its_paper(width: int, published: int) -> None:
    count = sum(p.numel() for p in bc_resnet.build(classes=12, rate=16000, width=width).parameters())
    assert count == pytest.approx(published, rel=0.003)


def test_bands_are_normalised_in_their_groups() -> None:
    torch.manual_seed(0)
    norm = bc_resnet.BandNorm(3, 10)
    x = torch.randn(8, 3, 10, 20) + torch.arange(10.0)[:, None]
    trained = norm.train()(x).detach()
    for group in range(5):
        part = trained[:, :, 2 * group : 2 * group + 2]
        assert part.mean() == pytest.approx(0, abs=1e-5) and part.std() == pytest.approx(1, abs=1e-2)
    norm.norm.momentum = 1.0
    norm(x)
    grouped = norm.norm.eval()(x.reshape(8, 15, 2, 20)).reshape(x.shape)
    norm.training = False
    assert torch.allclose(norm(x), grouped, atol=1e-5)
