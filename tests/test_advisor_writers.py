"""The nets that write never look ahead, and step by step they say what they say of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.architectures import char_rnn, gpt
from advisor.architectures.experts import BALANCE, Experts
from advisor.writing_steps import beginning, stand_in
from compress.context import Target
from compress.export import export
from compress.runtime import predictor

VOCABULARY, LENGTH = 23, 24
SMALL: dict[str, Any] = {"width": 16, "layers": 2}
NETS: dict[str, Any] = {
    "rnn": lambda: char_rnn.build(vocabulary=VOCABULARY, length=LENGTH, kind="rnn", hidden=16, **SMALL),
    "gru": lambda: char_rnn.build(vocabulary=VOCABULARY, length=LENGTH, kind="gru", hidden=16, **SMALL),
    "lstm": lambda: char_rnn.build(vocabulary=VOCABULARY, length=LENGTH, kind="lstm", hidden=16, **SMALL),
    "gpt": lambda: gpt.build(vocabulary=VOCABULARY, length=LENGTH, heads=2, **SMALL),
    "experts": lambda: gpt.build(vocabulary=VOCABULARY, length=LENGTH, heads=2, experts=4, **SMALL),
}


def net(name: str) -> Any:
    torch.manual_seed(3)
    found = NETS[name]().eval()
    with torch.no_grad():
        for weight in found.parameters():
            weight.add_(0.1 * torch.randn_like(weight))  # louder than a fresh net
    return found


def signs(count: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (2, count), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def stepped(model: Any, ids: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    """The logits of `ids` read in pieces, each with the state that the one before left."""
    step, state, found = model.step(), torch.from_numpy(beginning(model, batch=len(ids))), []
    for piece in torch.tensor_split(ids, cuts, dim=1):
        logits, state = step(piece, state)
        found.append(logits)
    return torch.cat(found, 1)


@pytest.mark.parametrize("name", NETS)
def test_what_comes_later_changes_nothing_before_it(name: str) -> None:
    model, ids = net(name), signs(LENGTH)
    other = ids.clone()
    other[:, 9:] = (other[:, 9:] + 1) % VOCABULARY
    with torch.no_grad():
        one, two = model(ids), model(other)
    assert torch.allclose(one[:, :9], two[:, :9], atol=1e-6)
    assert (one[:, 9:] - two[:, 9:]).abs().amax((0, 2)).gt(1e-4).all(), "and it does change what is there"


@pytest.mark.parametrize("name", NETS)
def test_what_came_long_before_still_matters(name: str) -> None:
    model, ids = net(name), signs(LENGTH)
    other = ids.clone()
    other[:, 0] = (other[:, 0] + 1) % VOCABULARY
    with torch.no_grad():
        assert (model(ids)[:, 3] - model(other)[:, 3]).abs().max() > 1e-5


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(sorted(NETS)), st.lists(st.integers(1, LENGTH - 1), unique=True, max_size=6))
def test_however_a_text_is_cut_its_pieces_say_what_the_whole_says(name: str, cuts: list[int]) -> None:
    model, ids = net(name), signs(LENGTH)
    with torch.no_grad():
        assert torch.allclose(stepped(model, ids, sorted(cuts)), model(ids), atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_the_exported_step_says_sign_by_sign_what_the_whole_says(name: str, tmp_path: Path) -> None:
    model, ids = net(name), signs(LENGTH)
    graph = export(model.step(), stand_in(model, vocabulary=VOCABULARY, length=LENGTH), tmp_path / "step.onnx", target=Target())  # type: ignore[arg-type]
    step, state, found = predictor(graph), beginning(model, batch=2), []
    for place in (slice(0, 5), *(slice(k, k + 1) for k in range(5, LENGTH))):  # a beginning at once, then sign by sign
        got = step({"ids": ids[:, place].numpy(), "past": state})
        state = got["present"]
        found.append(got["logits"])
    with torch.no_grad():
        wanted = model(ids).numpy()
    assert np.abs(np.concatenate(found, 1) - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())
    assert state.shape == tuple({"batch": 2, "past": LENGTH}.get(axis, axis) for axis in model.past)


def test_a_cache_grows_and_a_state_does_not() -> None:
    assert "past" in net("gpt").past and "past" not in net("lstm").past
    assert net("lstm").past[1] == 2 and net("gru").past[1] == 1


def test_an_unknown_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="rnn, gru, lstm"):
        char_rnn.build(vocabulary=4, length=8, kind="transformer")


def test_the_table_of_signs_scores_them_too() -> None:
    model = net("gpt")
    names = {name for name, _ in model.named_parameters()}
    assert not any("head" in name for name in names)
    with torch.no_grad():
        before = model(signs(8))
        model.embed.weight[5] *= 2
        assert not torch.allclose(before[..., 5], model(signs(8))[..., 5])


# -- experts -------------------------------------------------------------------------------------------------------------


def mixture() -> Experts:
    torch.manual_seed(0)
    return Experts(8, 16, experts=4, chosen=2)


def test_two_experts_answer_and_their_shares_are_one() -> None:
    experts, x = mixture(), torch.randn(3, 5, 8)
    share = experts.share(experts.score(x).softmax(-1))
    assert torch.equal((share > 0).sum(-1), torch.full((3, 5), 2)) and torch.allclose(share.sum(-1), torch.ones(3, 5))


def test_the_answer_is_the_chosen_experts_answers_and_no_others() -> None:
    experts, x = mixture().eval(), torch.randn(3, 5, 8)
    share = experts.share(experts.score(x).softmax(-1))
    each = []
    for k in range(4):
        rows = slice(16 * k, 16 * (k + 1))
        inside = torch.nn.functional.gelu(x @ experts.up.weight[rows].T + experts.up.bias[rows])
        each.append(inside @ experts.down.weight[:, rows].T)
    wanted = (torch.stack(each, -2) * share[..., None]).sum(-2) + experts.down.bias
    assert torch.allclose(experts(x), wanted, atol=1e-6)


def test_balanced_choices_cost_one_and_uneven_ones_more() -> None:
    experts = mixture()
    even = torch.full((1, 4, 4), 0.25)
    turns = torch.tensor([[[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]])
    assert experts.unevenness(even, turns).item() == pytest.approx(1.0)
    always = torch.tensor([[[0.5, 0.5, 0.0, 0.0]] * 4])
    assert experts.unevenness(always, always).item() == pytest.approx(2.0)


def test_training_pulls_uneven_choices_apart_without_a_loss_that_knows_of_them() -> None:
    experts, x = mixture(), torch.randn(2, 6, 8)
    with torch.no_grad():
        experts.score.weight[0] += 3.0 * x.mean((0, 1))
    experts.train()(x).sum().backward()
    learned = experts.score.weight.grad.clone()  # type: ignore[union-attr]
    experts.zero_grad()
    experts.eval()(x).sum().backward()
    extra = learned - experts.score.weight.grad  # type: ignore[operator]
    chances = experts.score(x).softmax(-1)
    experts.zero_grad()
    (BALANCE * experts.unevenness(chances, experts.share(chances).detach())).backward()
    assert torch.allclose(extra, experts.score.weight.grad, atol=1e-6) and extra.abs().sum() > 0  # type: ignore[arg-type]


def test_more_chosen_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 2"):
        Experts(8, 16, experts=2, chosen=3)
