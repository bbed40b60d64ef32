import copy

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer
from fastreid.utils.events import EventStorage
from tiny_data import random_batch

from igoas_plugin.fastreid_fixes.optimizer import ALIGNMENT, aligned


@pytest.fixture
def built(igoas_cfg):
    igoas_cfg.MODEL.IGOAS.FREEZE_EPOCHS = 1  # one more group of parameters
    model = build_model(igoas_cfg).train()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return model, before, *build_optimizer(igoas_cfg, model)


def test_every_parameter_and_gradient_starts_at_a_line_of_the_cache(built, raw_host):
    assert raw_host["parameters_that_are_not_aligned"] == 2  # of 4
    model, before, _, wrapper = built
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.data_ptr() % ALIGNMENT == parameter.grad.data_ptr() % ALIGNMENT == 0, name
    wrapper.assert_buffer_is_valid()


def test_the_gaps_stay_zero_in_training(built):
    model, _, optimizer, wrapper = built
    for group in optimizer.param_groups:
        group["weight_decay"], group["lr"] = 0.1, 0.1
    with EventStorage():
        sum(model(random_batch()).values()).backward()
    optimizer.step()
    wrapper.assert_buffer_is_valid()
    for parameter in model.parameters():  # all that is left in the buffers are the gaps
        parameter.data.zero_()
        parameter.grad.zero_()
    for group in optimizer.param_groups:
        [values] = group["params"]
        assert not values.any() and not values.grad.any()
        assert values.numel() % (ALIGNMENT // 4) == 0


def test_a_state_that_was_saved_before_there_were_gaps_is_taken(built):
    model, _, optimizer, wrapper = built
    with EventStorage():
        sum(model(random_batch()).values()).backward()
    optimizer.step()
    saved = optimizer.state_dict()
    parts = iter(wrapper.sizes)
    for group in saved["param_groups"]:
        sizes = next(parts)
        for key in saved["state"].keys() & group["params"]:
            old = {}
            for name, value in saved["state"][key].items():
                own = value.dim() == 1 and [
                    each[:size] for each, size in zip(value.split(aligned(sizes, 4)), sizes, strict=True)
                ]
                old[name] = torch.cat(own) if own else value
            saved["state"][key] = old
    lengths = [value.numel() for state in saved["state"].values() for value in state.values()]
    before = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    after = optimizer.state_dict()
    assert lengths != [value.numel() for state in after["state"].values() for value in state.values()]
    torch.testing.assert_close(after["state"], before["state"], rtol=0, atol=0)


def test_a_parameter_that_left_the_buffer_is_still_noticed(built):
    model, _, _, wrapper = built
    model.backbone.conv1.weight.data = model.backbone.conv1.weight.data.clone()
    with pytest.raises(ValueError, match="buffer has been invalidated"):
        wrapper.assert_buffer_is_valid()
