import shutil

import pytest
import torch
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from runs import start
from tiny_data import random_batch
from torch import nn
from torch_versions import compiles

from igoas_plugin.core.errors import InputError
from igoas_plugin.evaluation.activation_maps import activation_maps
from igoas_plugin.modeling.compilation import require_compiler
from igoas_plugin.preflight import build_scratch_model, check_settings


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were compiled, by a compiler that leaves them as they are; counts and keeps the time short."""
    compile_module, seen = nn.Module.compile, []

    def note(graph, inputs):
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", lambda self: compile_module(self, backend=note))
    torch.compiler.reset()
    yield seen
    torch.compiler.reset()


@compiles
def test_the_moving_rectangle_compiles_nothing_anew(igoas_cfg, graphs):
    igoas_cfg.MODEL.IGOAS.COMPILE = True
    model, covered = build_model(igoas_cfg).train(), []
    with EventStorage() as storage:
        storage.iters_per_epoch = 2
        for storage.iter in range(8):
            storage.epoch = storage.iter // 2
            sum(model(random_batch(seed=storage.iter)).values()).backward()
            covered.append(storage.latest()["occlusion/share"][0])
    assert len(set(covered)) > 3
    assert len(graphs) == 3  # trunk and two branches


@compiles
def test_a_run_compiles_twice_where_layers_thaw_and_never_for_an_evaluation(igoas_cfg, graphs):
    igoas_cfg.MODEL.IGOAS.COMPILE, igoas_cfg.MODEL.IGOAS.FREEZE_EPOCHS = True, 1
    igoas_cfg.SOLVER.EMA.ENABLED = True  # which exchanges the values of the weights in place
    igoas_cfg.SOLVER.MAX_EPOCH, igoas_cfg.TEST.EVAL_PERIOD, igoas_cfg.TEST.IMS_PER_BATCH = 3, 1, 3
    results = start(igoas_cfg).train()
    assert 0 <= results["Rank-1"] <= 100
    assert len(graphs) == 6


@compiles
def test_looking_at_responses_compiles_nothing(igoas_cfg, graphs):
    igoas_cfg.MODEL.IGOAS.COMPILE = True
    activation_maps(build_model(igoas_cfg).eval(), random_batch()["images"])
    assert graphs == []


@compiles
def test_losses_gradients_and_names_stay(igoas_cfg, graphs):
    def trained(compiled):
        igoas_cfg.MODEL.IGOAS.COMPILE = compiled
        torch.manual_seed(0)
        model = build_model(igoas_cfg).train()
        with EventStorage():
            losses = model(random_batch())
        sum(losses.values()).backward()
        return {name: loss.detach() for name, loss in losses.items()}, dict(model.named_parameters())

    (plain, parameters), (losses, compiled) = trained(False), trained(True)
    assert len(graphs) == 3 and list(compiled) == list(parameters)
    torch.testing.assert_close(losses, plain)
    for name, parameter in parameters.items():
        torch.testing.assert_close(compiled[name].grad, parameter.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_a_whole_model_can_be_compiled_by_its_user(igoas_cfg):
    model, batch = build_model(igoas_cfg).eval(), random_batch()["images"]
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="eager")(batch), model(batch))


@compiles
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the compiler of torch needs g++")
def test_the_real_compiler_trains_the_same(igoas_cfg):
    def trained(compiled):
        igoas_cfg.MODEL.IGOAS.COMPILE = compiled
        torch.manual_seed(0)
        with EventStorage():
            return build_model(igoas_cfg).train()(random_batch())

    torch.testing.assert_close(trained(True), trained(False), rtol=1e-4, atol=1e-5)  # float32, other order of sums


@compiles
def test_a_machine_that_cannot_compile_is_told(monkeypatch, igoas_cfg):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    igoas_cfg.MODEL.IGOAS.COMPILE = True
    build_scratch_model(igoas_cfg, identities=4)  # on the CPU, where a GPU trains: it is not run
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler on a CPU"):
        check_settings(igoas_cfg)
    check_settings(igoas_cfg, train=False)
    with pytest.raises(InputError, match="needs a C\\+\\+ compiler on a CPU"):
        require_compiler("cpu")
    monkeypatch.undo()
    monkeypatch.delattr(torch.compiler, "set_stance", raising=False)
    with pytest.raises(InputError, match="MODEL.IGOAS.COMPILE needs torch 2.6 or newer"):
        require_compiler("cuda")
