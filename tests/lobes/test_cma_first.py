"""The other order of MMF and CMA."""

import pytest
import torch

from qieemo_sb.lobes.fusion import CMAFirst

LENGTHS = torch.tensor([7, 3])


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    return CMAFirst(n_tokens=5, d_model=8, width=12).eval()


@pytest.fixture
def streams():
    torch.manual_seed(1)
    return torch.randn(2, 7, 5).log_softmax(-1), torch.randn(2, 7, 8)


def test_mmf_gets_the_ppg_and_what_was_attended(fusion, streams):
    ppg, emotional = streams
    joined = fusion.join(ppg, emotional, LENGTHS)
    attended = fusion.cma(joined, ppg, emotional, LENGTHS)
    expected = fusion.mmf(ppg, attended, LENGTHS)
    assert torch.equal(fusion(ppg, emotional, LENGTHS), expected)


def test_a_frame_hears_the_others_and_none_past_the_end(fusion, streams):
    before = fusion(*streams, LENGTHS)
    ppg, emotional = (x.clone() for x in streams)
    emotional[1, 2, 0] += 1  # all channels at once: CMA norms that away
    emotional[1, 3:] = 1e3
    after = fusion(ppg, emotional, LENGTHS)
    assert not torch.allclose(after[1, 0], before[1, 0])
    assert torch.allclose(after[0], before[0], atol=1e-6)
    emotional[1, 3:] = 0
    again = fusion(ppg, emotional, LENGTHS)
    assert torch.allclose(again[1, :3], after[1, :3], atol=1e-6)


def test_every_parameter_learns(fusion, streams):
    fusion(*streams, LENGTHS)[..., 0].sum().backward()
    lost = [n for n, p in fusion.named_parameters() if not p.grad.abs().sum()]
    assert lost == []
