"""The verdicts on the source article that a few lines can measure: counts, outputs and gradients of small layers.

Each test is named by a claim in `rules/knowledge/claims.toml` (`see`), and `advisor explain` shows its name.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from rules.claims import challenges, claims
from rules.problems import Problem
from rules.tables import Table

WIDE, STEPS = 32, 12


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


def flops(net: nn.Module, *inputs: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops()


# -- attention -------------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention written out, so that every product is counted. (b, t, d) → (b, t, d)."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project, self.merge = nn.Linear(WIDE, 3 * WIDE), nn.Linear(WIDE, WIDE)
        self.map = torch.empty(0)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, time, _ = tokens.shape
        query, key, value = self.project(tokens).reshape(batch, time, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        self.map = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        return self.merge((self.map @ value).transpose(1, 2).reshape(batch, time, WIDE))


def test_the_number_of_heads_changes_neither_parameters_nor_multiplications() -> None:
    tokens = torch.randn(2, STEPS, WIDE)
    nets = {heads: Attention(heads) for heads in (1, 8, 16)}
    assert len({parameters(net) for net in nets.values()}) == 1
    assert len({flops(net, tokens) for net in nets.values()}) == 1
    assert {heads: net.map.numel() for heads, net in nets.items()} == {heads: heads * 2 * STEPS**2 for heads in nets}
    assert parameters(nn.MultiheadAttention(WIDE, 1)) == parameters(nn.MultiheadAttention(WIDE, 16)) == parameters(nets[8])


def test_softmax_saturates_without_the_scale() -> None:
    width = 512
    query, key = torch.randn(64, width), torch.randn(64, width)
    found = {}
    for scale in (1.0, width**-0.5):
        scores = (query @ key.T * scale).detach().requires_grad_()
        chances = scores.softmax(-1)
        chances.diagonal().sum().backward()  # any loss that asks for one place
        assert scores.grad is not None
        found[scale] = chances.max(-1).values.mean().item(), scores.grad.abs().mean().item()
    (sure, faint), (unsure, strong) = found.values()
    assert sure > 0.8 and unsure < 0.2
    assert strong > 3 * faint


def test_attention_alone_knows_no_order() -> None:
    net, tokens, order = Attention(4), torch.randn(1, STEPS, WIDE), torch.randperm(STEPS)
    torch.testing.assert_close(net(tokens[:, order]), net(tokens)[:, order])
    place = torch.randn(STEPS, WIDE)
    assert not torch.allclose(net(tokens[:, order] + place), net(tokens + place)[:, order], atol=1e-2)


def test_different_attention_maps_can_give_the_same_answer() -> None:
    values = torch.randn(STEPS, 3, dtype=torch.float64)  # more places than values have columns: many weights make one sum
    weights = (0.3 * torch.randn(STEPS, dtype=torch.float64)).softmax(0)
    free = torch.linalg.svd(torch.cat([values, torch.ones(STEPS, 1, dtype=torch.float64)], 1).T).Vh[-1]
    others = weights + free * 0.9 / (-free / weights).max()
    assert others.min() > 0 and torch.isclose(others.sum(), torch.ones((), dtype=torch.float64))
    torch.testing.assert_close(others @ values, weights @ values)
    assert (others - weights).abs().sum() > 0.1


# -- recurrent layers --------------------------------------------------------------------------------------------------------


def test_recurrent_parameters_scale_one_three_four_eight() -> None:
    plain = parameters(nn.RNN(WIDE, WIDE))
    assert [
        parameters(net) / plain
        for net in (nn.RNN(WIDE, WIDE), nn.GRU(WIDE, WIDE), nn.LSTM(WIDE, WIDE), nn.LSTM(WIDE, WIDE, bidirectional=True))
    ] == [1, 3, 4, 8]
    embedding, step = 1.15, 0.05  # what the article's first two figures say, in millions: E + r = 1.2, E + 3 r = 1.3
    assert [round(embedding + share * step, 2) for share in (1, 3, 4, 8)] == [1.2, 1.3, 1.35, 1.55]  # not 1.6 and 2.4


@pytest.mark.parametrize(("bidirectional", "knows_the_future"), [(True, True), (False, False)])
def test_a_bidirectional_model_cannot_generate(bidirectional: bool, knows_the_future: bool) -> None:
    net = nn.LSTM(WIDE, WIDE, bidirectional=bidirectional, batch_first=True)
    written = torch.randn(1, STEPS, WIDE)
    another = written.clone()
    another[:, STEPS // 2 :] = torch.randn(1, STEPS - STEPS // 2, WIDE)  # what is still to be written
    now = slice(0, STEPS // 2)
    same = torch.equal(net(written)[0][:, now], net(another)[0][:, now])
    assert same is not knows_the_future


@pytest.mark.parametrize(("stretch", "grows"), [(0.5, False), (2.0, True)])
def test_recurrent_gradients_explode_as_well_as_vanish(stretch: float, grows: bool) -> None:
    matrix = stretch * torch.linalg.qr(torch.randn(WIDE, WIDE)).Q
    first = torch.randn(WIDE, requires_grad=True)
    state = first
    for _ in range(20):
        state = matrix @ state
    state.sum().backward()
    assert first.grad is not None
    assert first.grad.norm() > 1e4 if grows else first.grad.norm() < 1e-4


@pytest.mark.parametrize(("gate", "share"), [(1.0, 1.0), (0.5, 0.5**20)])
def test_an_open_forget_gate_carries_the_gradient_and_a_half_closed_one_loses_it(gate: float, share: float) -> None:
    first = torch.zeros(WIDE, requires_grad=True)
    cell = first
    for _ in range(20):
        cell = gate * cell + torch.randn(WIDE)
    cell.sum().backward()
    torch.testing.assert_close(first.grad, torch.full((WIDE,), share))


def test_the_whole_lstm_equations_are_the_layer() -> None:
    layer, seen = nn.LSTM(5, 7), torch.randn(STEPS, 5)
    state = cell = torch.zeros(7)
    for step in seen:
        mixed = layer.weight_ih_l0 @ step + layer.bias_ih_l0 + layer.weight_hh_l0 @ state + layer.bias_hh_l0
        enter, forget, candidate, leave = mixed.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
        state = leave.sigmoid() * cell.tanh()
    torch.testing.assert_close(layer(seen)[0][-1], state)


def test_a_batch_taken_for_time_mixes_the_samples() -> None:
    lines = torch.randn(4, STEPS, WIDE)
    another = lines.clone()
    another[3] = torch.randn(STEPS, WIDE)
    for batch_first in (True, False):
        net = nn.LSTM(WIDE, WIDE, bidirectional=True, batch_first=batch_first)
        assert torch.equal(net(lines)[0][0], net(another)[0][0]) is batch_first


def test_squeezing_a_longer_axis_does_nothing_and_says_nothing() -> None:
    features = torch.randn(2, 8, 4, 16)  # (b, c, h, w) with a height that nobody pooled away
    assert features.squeeze(2).shape == features.shape
    with pytest.raises((ValueError, RuntimeError), match=r"2-?D|3-?D"):
        nn.LSTM(8, 8)(features.squeeze(2))


def test_one_norm_for_all_keeps_the_direction_and_a_norm_for_each_turns_it() -> None:
    gradients = [torch.randn(3, 4), 10 * torch.randn(5)]

    def clipped(*groups: tuple[int, ...]) -> Tensor:
        weights = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        for group in groups:
            torch.nn.utils.clip_grad_norm_([weights[place] for place in group], 1.0)
        return torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])

    step = torch.cat([gradient.flatten() for gradient in gradients])
    together, apart = clipped((0, 1)), clipped((0,), (1,))
    assert functional.cosine_similarity(together, step, dim=0) > 0.9999
    assert functional.cosine_similarity(apart, step, dim=0) < 0.95
    assert together.norm() < 1.0001 < apart.norm()


# -- convolutions ------------------------------------------------------------------------------------------------------------


def test_a_convolution_sums_over_input_channels_and_does_not_flip_its_kernel() -> None:
    image, kernel = torch.randn(3, 6, 6), torch.randn(2, 3, 3, 3)
    straight = torch.stack([(image[:, 1:4, 2:5] * kernel[out]).sum() for out in range(2)])
    torch.testing.assert_close(functional.conv2d(image, kernel)[:, 1, 2], straight)
    flipped = torch.stack([(image[:, 1:4, 2:5] * kernel[out].flip(1, 2)).sum() for out in range(2)])
    assert not torch.allclose(functional.conv2d(image, kernel)[:, 1, 2], flipped)


def test_leaky_relu_adds_nothing() -> None:
    points, slope = torch.linspace(-3, 3, 13), 0.1
    torch.testing.assert_close(functional.leaky_relu(points, slope), torch.maximum(points, slope * points))
    assert functional.leaky_relu(torch.zeros(1), slope).item() == 0


def test_max_pooling_returns_values_and_argmax_their_places() -> None:
    image = torch.tensor([[[[3.5, -1.0], [0.5, 9.25]]]])
    values, places = functional.max_pool2d(image, 2, return_indices=True)
    assert values.item() == 9.25 and places.item() == 3 == image.argmax().item()


def test_strided_pooling_answers_a_shift_with_something_else() -> None:
    line = torch.randn(1, 1, 32)
    shifted = line.roll(1, -1)
    pooled, moved = functional.max_pool1d(line, 2), functional.max_pool1d(shifted, 2)
    assert min((pooled.roll(by, -1) - moved).abs().max() for by in range(16)) > 0.1  # no shift of the output makes up for it
    torch.testing.assert_close(functional.max_pool1d(line.roll(2, -1), 2), pooled.roll(1, -1))


def test_dilation_adds_no_parameters_but_the_stride_it_replaces_is_paid_for() -> None:
    image = torch.randn(1, 8, 16, 16)
    dense, wide = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=6, dilation=6)
    assert parameters(dense) == parameters(wide)
    assert flops(dense, image) == flops(wide, image)
    strided = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, padding=1))
    dilated = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=2, dilation=2))
    assert parameters(strided) == parameters(dilated)
    assert flops(dilated, image) == 4 * flops(strided, image)


@pytest.mark.parametrize("multiplier", [0.25, 0.5, 1.0])
def test_a_depthwise_convolution_has_a_group_for_each_channel_at_every_width(multiplier: float) -> None:
    channels = int(32 * multiplier)
    layer = nn.Conv2d(channels, channels, 3, groups=channels, bias=False)
    assert parameters(layer) == 9 * channels
    image = torch.randn(1, channels, 8, 8)
    another = image.clone()
    another[:, 0] = torch.randn(8, 8)
    assert torch.equal(layer(image)[:, 1:], layer(another)[:, 1:])  # no channel looks at another


def test_zeroed_weights_cost_a_dense_kernel_as_many_multiplications() -> None:
    image = torch.randn(1, 32, 8, 8)
    layer = nn.Conv2d(32, 32, 3, bias=False)
    before = flops(layer, image)
    with torch.no_grad():
        layer.weight[torch.rand_like(layer.weight) < 0.9] = 0
    assert (layer.weight == 0).float().mean() > 0.85
    assert flops(layer, image) == before
    assert flops(nn.Conv2d(32, 16, 3, bias=False), image) == before // 2  # whole channels are another matter


# -- normalisation, explanations -----------------------------------------------------------------------------------------------


def test_layer_norm_does_not_know_the_batch_and_batch_norm_does() -> None:
    tokens = torch.randn(4, WIDE)
    another = tokens.clone()
    another[1:] = 5 * torch.randn(3, WIDE)
    assert torch.equal(nn.LayerNorm(WIDE)(tokens)[0], nn.LayerNorm(WIDE)(another)[0])
    assert not torch.allclose(nn.BatchNorm1d(WIDE)(tokens)[0], nn.BatchNorm1d(WIDE)(another)[0])


def test_a_surrogate_is_worth_its_fidelity() -> None:
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    rows, labels = make_classification(600, 12, n_informative=8, random_state=0)
    model = RandomForestClassifier(20, random_state=0).fit(rows[:300], labels[:300])
    said = model.predict(rows)
    fidelity = {
        depth: (
            DecisionTreeClassifier(max_depth=depth, random_state=0).fit(rows[:300], said[:300]).predict(rows[300:]) == said[300:]
        ).mean()
        for depth in (1, 5)
    }
    assert 0.5 < fidelity[1] < fidelity[5] < 1  # few rules say less than the model does: say how much less


# -- the files -------------------------------------------------------------------------------------------------------------------

SOUND = {"id": "a", "part": "1", "says": "b", "verdict": "right", "fact": "c", "sources": ["d"]}


def test_a_claim_is_read() -> None:
    (found,) = claims(Table({"claim": [{**SOUND, "terms": ["x-y"], "see": ["advisor matrix"]}]}, "claims.toml"))
    assert (found.id, found.verdict, found.terms, found.sources) == ("a", "right", ("x-y",), ("d",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdict": "true"}, "expected one of right, imprecise, wrong, unsourced, opinion"),
        ({"sources": []}, "needs a source"),
        ({"terms": ["Two Words"]}, "is no name"),
        ({"veridct": "wrong"}, "unknown key 'veridct'"),
        ({"says": "two\nlines"}, "a text on one line"),
    ],
)
def test_a_claim_that_is_malformed_is_refused_by_file_and_key(change: dict[str, object], says: str) -> None:
    with pytest.raises(Problem, match=says) as refused:
        claims(Table({"claim": [{**SOUND, **change}]}, "claims.toml"))
    assert "claims.toml" in str(refused.value)


def test_a_claim_is_there_once() -> None:
    with pytest.raises(Problem, match="there twice"):
        claims(Table({"claim": [SOUND, SOUND]}, "claims.toml"))


def test_a_challenge_without_remedies_is_refused() -> None:
    row = {"id": "a", "title": "b", "claim": "c"}
    with pytest.raises(Problem, match="at least one remedy"):
        challenges(Table({"challenge": [row]}, "challenges.toml"))


def test_the_claims_are_not_read_for_a_recommendation() -> None:
    import subprocess
    import sys

    script = (
        "import sys\nfrom advisor.recommend import recommend\nfrom rules.facts import Request\nfrom rules.knowledge import load\n"
        "recommend(Request('ocr'), load())\nassert 'rules.claims' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent.parent, check=True)
