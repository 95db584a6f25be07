"""What trains of any encoder, and what does not."""

import checkpoints
import pytest
import torch
from checkpoints import fresh_encoder, names_where, train_once

from qieemo_sb.errors import QieemoError

SECONDS = 16_000

one_of_each = pytest.mark.parametrize(
    "variant",
    ["whisper", "wav2vec2-base", "wavlm-base", "wavlm-large", "hubert-large"],
)


def ends_in_norm(variant):
    """Tell if a norm follows the last block, and trains with it."""
    return variant == "whisper" or "large" in variant


@pytest.mark.parametrize("variant", ["whisper", *checkpoints.VARIANTS])
def test_frozen_encoder_gives_no_gradient_graph(sound, variant):
    encoder = fresh_encoder(variant).train()
    assert encoder.frozen
    assert not names_where(encoder, lambda p: p.requires_grad)
    weighted = [m for m in encoder.modules() if [*m.parameters(False)]]
    assert weighted and not any(m.training for m in weighted)
    for hidden in encoder(sound(SECONDS)[None]).hidden_states.values():
        assert not hidden.requires_grad


@one_of_each
@pytest.mark.parametrize("above", [1, 2, 3])
def test_blocks_above_train(sound, variant, above):
    encoder = fresh_encoder(variant, trainable_above=above)
    prefixes = [f"blocks.{k}." for k in range(above, 3)]
    prefixes += ["norm."] if ends_in_norm(variant) else []
    names = names_where(encoder, lambda p: True)
    expected = {name for name in names if name.startswith(tuple(prefixes))}
    assert names_where(encoder, lambda p: p.requires_grad) == expected
    if expected:
        assert train_once(encoder, sound(SECONDS)[None]) == expected


@one_of_each
def test_blocks_above_follow_the_mode(variant):
    encoder = fresh_encoder(variant, trainable_above=1).train()
    assert [b.training for b in encoder.blocks] == [False, True, True]
    assert encoder.norm.training == ends_in_norm(variant)
    assert not any(m.training for m in encoder.eval().modules())


@one_of_each
def test_no_graph_below_what_trains(sound, variant):
    encoder = fresh_encoder(variant, trainable_above=2).train()
    hidden = encoder(sound(SECONDS)[None]).hidden_states
    assert [h.requires_grad for h in hidden.values()] == [False] * 3 + [True]


@pytest.mark.parametrize("variant", ["whisper", "hubert-base"])
@pytest.mark.parametrize("above", [-1, 4])
def test_block_to_train_above_must_exist(variant, above):
    with pytest.raises(QieemoError, match=rf"no block \[{above}\].*1 to 3"):
        fresh_encoder(variant, trainable_above=above)


@one_of_each
def test_recomputed_blocks_have_the_same_gradients(sound, pad, variant):
    wavs = pad([sound(8_000), sound(5_000)])[0]
    plain = fresh_encoder(variant, trainable_above=1)
    saving = fresh_encoder(
        variant, trainable_above=1, gradient_checkpointing=True
    )
    for encoder in (plain, saving):
        torch.manual_seed(1)  # of the dropouts
        train_once(encoder, wavs)
    for a, b in zip(plain.parameters(), saving.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            assert torch.allclose(a.grad, b.grad, atol=1e-6)
