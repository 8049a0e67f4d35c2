"""Nets that read texts keep what their papers say: both ways, neighbours only, and what was read before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from advisor.architectures import bilstm_classifier, local_attention
from rules.problems import Problem

GIVEN = {"classes": 3, "vocabulary": 60, "length": 64}


def texts(*lengths: int, seed: int = 0) -> torch.Tensor:
    """Random texts, padded to 64."""
    tokens = torch.randint(1, 60, (len(lengths), 64), generator=torch.Generator().manual_seed(seed))
    return tokens * (torch.arange(64) < torch.tensor(lengths)[:, None])


# -- both ways -----------------------------------------------------------------------------------------------------------


def test_the_way_back_begins_at_the_last_word_whatever_the_padding() -> None:
    tokens = texts(5, 64, 0, 1)
    places = bilstm_classifier.places((tokens != 0).float())
    turned = bilstm_classifier.turn(tokens.unsqueeze(2).float(), places).squeeze(2).long()
    assert turned[0, :5].tolist() == tokens[0, :5].tolist()[::-1] and turned[0, 5:].tolist() == [0] * 59
    assert turned[1].tolist() == tokens[1].tolist()[::-1] and turned[3].tolist() == tokens[3].tolist()
    again = bilstm_classifier.turn(bilstm_classifier.turn(tokens.unsqueeze(2).float(), places), places)
    assert torch.equal(again.squeeze(2).long(), tokens)


def test_one_layer_equals_the_bidirectional_lstm_of_torch() -> None:
    torch.manual_seed(0)
    layer = bilstm_classifier.BothWays(6, 5)
    both = torch.nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    for name, part in (("", layer.onward), ("_reverse", layer.back)):
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(both, f"{kind}_l0{name}").data.copy_(getattr(part, f"{kind}_l0"))
    x, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 1])
    there = (torch.arange(9) < lengths[:, None]).float()
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    wanted = torch.nn.utils.rnn.pad_packed_sequence(both(packed)[0], batch_first=True)[0]
    got = layer(x, bilstm_classifier.places(there)) * there.unsqueeze(2)
    assert torch.allclose(got, wanted, atol=1e-6)


def test_order_matters_to_an_lstm() -> None:
    torch.manual_seed(0)
    net = bilstm_classifier.build(**GIVEN, width=16, hidden=16, layers=1).eval()
    tokens = texts(20)
    other = torch.cat([tokens[:, :20].flip(1), tokens[:, 20:]], 1)
    assert not torch.allclose(net(tokens), net(other), atol=1e-4)


# -- neighbours only -----------------------------------------------------------------------------------------------------


def layer(window: int) -> local_attention.Local:
    torch.manual_seed(0)
    return local_attention.Local(16, heads=2, ratio=2.0, window=window, dropout=0.0).eval()


@pytest.mark.parametrize("window", [4, 8, 16])
def test_blocks_give_what_attention_over_everything_gives_under_a_mask(window: int) -> None:
    """The slow, obvious form: all pairs, those further apart than the window masked, padding too."""
    part, lengths = layer(window), torch.tensor([48, 30, 1])
    there = (torch.arange(48) < lengths[:, None]).float()
    x = torch.randn(3, 48, 16)
    angle = torch.randn(48, 4).repeat(1, 2)
    turns = (angle.cos(), angle.sin())
    got = part(x, local_attention.near(there, window), turns)
    query, key, value = part.qkv(part.before(x)).unflatten(2, (3, 2, 8)).unbind(2)
    query, key = (local_attention.turned(each, *turns) for each in (query, key))
    place = torch.arange(48)
    close = (place[:, None] - place[None]).abs() <= window
    mask = close[None, None] & (there[:, None, None] > 0)
    mixed = F.scaled_dot_product_attention(*(each.transpose(1, 2) for each in (query, key, value)), attn_mask=mask)
    wanted = x + part.out(mixed.transpose(1, 2).flatten(2))
    wide = part.up(part.between(wanted))
    wanted = wanted + part.down(wide[..., :32] * F.gelu(wide[..., 32:]))
    real = there.bool() & mask.any(-1)[:, 0]
    assert torch.allclose(got[real], wanted[real], atol=1e-5)


def test_a_layer_sees_its_window_and_no_further() -> None:
    part = layer(8)
    x = torch.randn(1, 64, 16, requires_grad=True)
    there, angle = torch.ones(1, 64), torch.zeros(64, 8)
    part(x, local_attention.near(there, 8), (angle.cos(), angle.sin()))[0, 30].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().sum(1).nonzero().flatten().tolist()
    assert seen == list(range(22, 39))


def test_a_place_is_told_by_how_far_apart_two_subwords_are() -> None:
    net = local_attention.build(**GIVEN, width=16, heads=2, layers=1, window=8)
    cosine, sine = net._turns(torch.zeros(1, 64, dtype=torch.long))
    query, key = torch.randn(1, 1, 1, 8).expand(1, 64, 1, 8), torch.randn(1, 1, 1, 8).expand(1, 64, 1, 8)
    query, key = local_attention.turned(query, cosine, sine), local_attention.turned(key, cosine, sine)
    scores = (query[0, :, 0] @ key[0, :, 0].T).detach()
    assert torch.allclose(scores.diagonal(3), scores[0, 3].expand(61), atol=1e-4)
    assert not torch.allclose(scores.diagonal(3)[:1], scores.diagonal(-3)[:1], atol=1e-3)


# -- what was read before ------------------------------------------------------------------------------------------------


def test_weights_of_a_folder_are_taken_and_can_be_frozen(tmp_path: Path) -> None:
    from advisor.architectures import minilm_encoder

    small = {"width": 16, "layers": 1, "heads": 2, "ratio": 2}
    torch.manual_seed(0)
    one = minilm_encoder.build(**GIVEN, **small)  # type: ignore[arg-type]
    one.bert.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    other = minilm_encoder.build(**GIVEN, weights=str(tmp_path), frozen=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(one.bert.parameters(), other.bert.parameters(), strict=True))
    assert [name for name, weight in other.named_parameters() if weight.requires_grad] == ["head.weight", "head.bias"]
    with pytest.raises(Problem, match="knows 60 subwords"):
        minilm_encoder.build(classes=3, vocabulary=61, length=64, weights=str(tmp_path))
