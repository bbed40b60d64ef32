"""MixedOcclusion: which block a batch gets, and which blocks can be mixed."""

import numpy as np
import pytest
import torch
from fastreid.utils.events import EventStorage

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.occlusion import OCCLUSION_REGISTRY, build_occlusion


def mixed(*names, **keys):
    cfg = igoas_plugin.get_cfg()
    cfg.SEED, cfg.SOLVER.MAX_EPOCH = 1, 10
    cfg.MODEL.OCCLUSION.NAME, cfg.MODEL.OCCLUSION.MIXED = "MixedOcclusion", names
    cfg.MODEL.OCCLUSION.update(keys)
    return build_occlusion(cfg)


def covered_by_batch(block, count=60):
    """Returns the covered share of each of the first batches of a run."""
    shares = []
    for iteration in range(count):
        with EventStorage(iteration):
            shares.append(float((1 - block(torch.zeros(2, 3, 32, 16))[1]).mean()))
    return np.array(shares)


def test_each_batch_gets_one_of_the_blocks_and_a_name_that_stands_twice_is_twice_as_likely():
    shares = covered_by_batch(mixed("NoOcclusion", "SlowDropBlock"))
    assert set(shares.round(2)) == {0, np.round(10 / 32, 2)} and 15 < (shares > 0).sum() < 45
    assert (covered_by_batch(mixed("NoOcclusion", "SlowDropBlock", "SlowDropBlock")) > 0).sum() > 30


def test_probability_and_mask_are_those_of_the_mixture():
    assert (covered_by_batch(mixed("SlowDropBlock", PROB=0.0), 5) == 0).all()
    block = mixed("SlowDropBlock", MASK="ones")
    occluded, visible = block(torch.ones(2, 3, 32, 16))
    assert visible.eq(1).all() and occluded.eq(0).any()


@pytest.mark.parametrize("names, message", [
    ((), "MODEL.OCCLUSION.MIXED is empty: name the blocks of MixedOcclusion"),
    (("Patch",), r"MODEL.OCCLUSION.MIXED must be a known name \(the nearest: PatchOcclusion"),
    (("NoOcclusion", "MixedOcclusion"), "MODEL.OCCLUSION.MIXED must be a known name .*, got MixedOcclusion"),
    (("BatchDropBlock",), "MODEL.OCCLUSION.MIXED: BatchDropBlock cannot be mixed"),
    (("Plain",), "MODEL.OCCLUSION.MIXED: Plain cannot be mixed: name subclasses of OcclusionBlock"),
])  # fmt: skip
def test_what_cannot_be_mixed_is_refused(names, message, monkeypatch):
    class Plain(torch.nn.Module):
        def __init__(self, cfg):
            super().__init__()

    monkeypatch.setitem(OCCLUSION_REGISTRY._obj_map, "Plain", Plain)
    with pytest.raises(InputError, match=message):
        mixed(*names)
