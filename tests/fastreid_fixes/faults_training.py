"""Faults of fast-reid without the plugin: loader, optimiser, trainer, launcher, checkpoints."""

import functools
import logging
import os
import pickle
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from unittest import mock

import fastreid.data.build
import fastreid.engine.defaults
import numpy as np
import tiny_data
import torch
from fastreid.data import build_reid_train_loader
from fastreid.data.build import fast_batch_collator
from fastreid.data.common import CommDataset
from fastreid.data.data_utils import read_image
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.engine import DefaultTrainer, default_setup
from fastreid.engine.hooks import EvalHook, LayerFreeze, LRScheduler, PeriodicCheckpointer, PeriodicWriter
from fastreid.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from fastreid.modeling import build_model
from fastreid.solver import build_lr_scheduler, build_optimizer
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import CommonMetricPrinter, EventStorage, JSONWriter
from PIL import Image
from raw_host import fault


def made_model():
    cfg = tiny_data.host_cfg()
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    torch.manual_seed(0)
    return cfg, build_model(cfg).train()


def steps(model, optimizer, count):
    before = torch.cat([parameter.detach().clone().flatten() for parameter in model.parameters()])
    with EventStorage() as storage:
        storage.epoch = 0
        for storage.iter in range(count):
            losses = model(tiny_data.random_batch())
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
    after = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return float((after - before).abs().sum())


@fault
def change_of_all_weights_after_two_steps():
    cfg, model = made_model()
    optimizer, wrapper = build_optimizer(cfg, model)
    change = steps(model, optimizer, 2)
    wrapper.assert_buffer_is_valid()
    return change


@fault
def parameters_that_are_not_aligned():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))  # 135, 5, 5 and 5 values
    build_optimizer(tiny_data.host_cfg(), model)
    return sum(parameter.data_ptr() % 16 > 0 for parameter in model.parameters())


@fault
def default_device():
    cfg = tiny_data.host_cfg()
    cfg.MODEL.DEVICE = "cuda"
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    build_model(cfg)


@fault
def train_loader_without_a_gpu():
    tiny_data.make_tiny_data(".")
    fastreid.data.build._root = "."
    build_reid_train_loader(tiny_data.host_cfg())


@fault
def root_after_the_environment_changed():
    os.environ["FASTREID_DATASETS"] = "elsewhere"
    return fastreid.data.build._root


@fault
def numpy_camera_ids_in_a_batch():
    return fast_batch_collator([{"camids": np.int64(1)}, {"camids": np.int64(2)}])["camids"]


@fault
def amp_step_on_the_cpu():
    cfg, model = made_model()
    optimizer, wrapper = build_optimizer(cfg, model)
    AMPTrainer(model, [tiny_data.random_batch()], optimizer, wrapper).run_step()


@fault
def dtype_of_logits_under_autocast():
    _, model = made_model()
    seen = []
    model.heads.register_forward_hook(lambda module, inputs, output: seen.append(str(output["cls_outputs"].dtype)))
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):
        model(tiny_data.random_batch())
    return seen[0]


@fault
def launch_two_processes_without_a_gpu():
    launch = sys.modules["fastreid.engine.launch"]
    launch._distributed_worker(0, print, 2, 2, 0, "tcp://127.0.0.1:1", ())


@fault
def default_dist_url():
    parser = fastreid.engine.defaults.default_argument_parser
    return [parser().parse_args([]).dist_url for _ in range(2)]


@fault
def cosine_of_a_second_pass_over_the_same_batch():
    _, model = made_model()
    model.eval()
    batch = tiny_data.random_batch()
    with torch.no_grad():
        first, second = model(batch), model(batch)
    return float(torch.nn.functional.cosine_similarity(first, second).min())


@fault
def targets_after_a_precise_bn_step():
    _, model = made_model()
    batch = tiny_data.random_batch()
    batch["targets"].fill_(-1)
    with EventStorage(), torch.no_grad():
        model(batch)
    return batch["targets"].tolist()


@fault
def teacher_with_a_key_of_the_plugin():
    cfg = tiny_data.host_cfg()
    Path("teacher.yml").write_text("MODEL: {IGOAS: {STEM: host}}")
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.HEADS.NUM_CLASSES = "Distiller", 4
    cfg.KD.MODEL_CONFIG, cfg.KD.MODEL_WEIGHTS = ["teacher.yml"], ["teacher.pth"]
    build_model(cfg)


@fault
def flattened_maps_in_channels_last():
    from fastreid.layers.pooling import Flatten

    Flatten()(torch.zeros(1, 2, 3, 4).contiguous(memory_format=torch.channels_last))


@fault
def frozen_norm_in_a_head():
    cfg = tiny_data.host_cfg()
    cfg.MODEL.HEADS.NORM, cfg.MODEL.HEADS.WITH_BNNECK = "FrozenBN", True
    build_model(cfg)


@fault
def key_of_a_bare_ON():
    from fastreid.config import CfgNode

    Path("on.yml").write_text("MASK_LOSS: {ON: feature_map}")
    return [type(key).__name__ for key in CfgNode.load_yaml_with_base("on.yml")["MASK_LOSS"]]


class Ran(TrainerBase):
    """Trainer that only counts its steps."""

    def __init__(self, hooks, max_epoch=2, iters=2):
        super().__init__()
        self.max_epoch, self.iters_per_epoch, self.max_iter = max_epoch, iters, max_epoch * iters
        self.register_hooks(hooks)

    def run_step(self):
        self.storage.put_scalar("total_loss", 1.0)


@fault
def evaluation_period_zero():
    Ran([EvalHook(0, lambda: {"metric": 1.0})]).train(0, 2, 2)


@fault
def metrics_of_the_last_evaluation_in_the_log():
    writer = JSONWriter("metrics.json")
    trainer = Ran([EvalHook(2, lambda: {"metric": 1.0}), PeriodicWriter([writer], 200)])
    trainer.train(0, 2, 2)
    return "metric" in Path("metrics.json").read_text()


@fault
def metrics_where_an_epoch_ends_at_a_multiple_of_the_writers_period():
    writer = JSONWriter("period.json")
    Ran([EvalHook(1, lambda: {"metric": 1.0}), PeriodicWriter([writer], 2)], max_epoch=1).train(0, 1, 2)
    return "metric" in Path("period.json").read_text()


@fault
def learning_rate_after_warm_up():
    """Returns the learning rate, 1.0 at most, if every second step overflows and halves the scale."""
    cfg = tiny_data.host_cfg()
    cfg.SOLVER.WARMUP_ITERS = 4
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    hook = LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer, 4))
    hook.trainer = Ran([])
    hook.trainer.warmup_iters, hook.trainer.grad_scaler = 4, mock.Mock()
    scale = 2.0**16
    with EventStorage() as hook.trainer.storage:
        for hook.trainer.iter in range(4):
            hook.trainer.grad_scaler.get_scale.return_value = scale
            hook.before_step()
            optimizer.step()
            scale /= 1 + hook.trainer.iter % 2
            hook.trainer.grad_scaler.get_scale.return_value = scale
            hook.after_step()
    return optimizer.param_groups[0]["lr"]


@fault
def resuming_a_finished_run():
    Ran([EvalHook(1, lambda: {"metric": 1.0})]).train(2, 2, 2)


@fault
def warnings_where_there_is_nothing_to_resume():
    trainer = object.__new__(DefaultTrainer)
    trainer.checkpointer, trainer.cfg = Checkpointer(torch.nn.Linear(1, 1), "nothing_here"), tiny_data.host_cfg()
    with mock.patch.object(logging.Logger, "warning") as warning:
        trainer.resume_or_load(resume=True)
    return warning.call_count


@fault
def console_lines_in_100_steps():
    printer = CommonMetricPrinter(1000)
    writer, trainer = PeriodicWriter([printer], 200), Ran([])
    writer.trainer, trainer.max_iter = trainer, 1000
    with mock.patch.object(printer, "write") as write, EventStorage():
        for trainer.iter in range(100):
            writer.after_step()
    return write.call_count


@fault
def console_tells_the_occlusion():
    printer = CommonMetricPrinter(1)
    with EventStorage() as storage, mock.patch.object(printer.logger, "info") as info:
        storage.epoch = 0
        storage.put_scalar("occlusion/share", 0.1)
        printer.write()
    return "occlusion" in str(info.call_args_list)


@fault
def storage_knows_the_length_of_an_epoch():
    trainer = Ran([])
    trainer.train(0, 2, 2)
    return hasattr(trainer.storage, "iters_per_epoch")


@fault
def seeds_of_two_runs_with_one_config():
    seen = []
    for _ in range(2):
        default_setup(tiny_data.host_cfg("seeds"), Namespace(config_file=""))
        seen.append(int(torch.randint(2**31, (1,))))
    return seen


@fault
def best_metric_after_a_resume():
    model = torch.nn.Linear(1, 1)
    checkpointer = Checkpointer(model, ".", save_to_disk=True)
    hook = PeriodicCheckpointer(checkpointer, 1)
    trainer = Ran([hook], max_epoch=3)
    trainer.cfg = tiny_data.host_cfg()
    hook.best_metric = 90.0
    checkpointer.save("model_best", epoch=0, metric=90.0)
    again = PeriodicCheckpointer(checkpointer, 1)
    trainer = Ran([again], max_epoch=3)
    trainer.cfg, trainer.start_epoch = tiny_data.host_cfg(), 1
    again.before_train()
    return again.best_metric


@fault
def files_of_a_save_that_was_interrupted():
    class Torn:
        def state_dict(self):
            return {"torn": lambda: None}  # cannot be pickled: the save dies half-way

    Path("torn").mkdir()
    try:
        Checkpointer(torch.nn.Linear(1, 1), "torn", save_to_disk=True, torn=Torn()).save("model_0000")
    except Exception:
        return sorted(path.name for path in Path("torn").iterdir())


@fault
def loading_a_checkpoint_of_another_model():
    Checkpointer(torch.nn.Linear(1, 1), ".", save_to_disk=True).save("other")
    Checkpointer(torch.nn.Conv2d(1, 1, 1)).load("other.pth")
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    Checkpointer(model).load("other.pth")
    return "loaded without an error"


@fault
def change_of_frozen_weights_after_a_resume():
    """Resumes a run at iteration 10 that freezes 4 iterations; fast-reid counts from 0 again."""
    cfg = tiny_data.host_cfg()
    cfg.MODEL.HEADS.NUM_CLASSES = 4
    cfg.MODEL.FREEZE_LAYERS, cfg.SOLVER.FREEZE_ITERS = ["backbone"], 4
    model = build_model(cfg).train()
    optimizer, _ = build_optimizer(cfg, model, contiguous=False)
    before = model.backbone.conv1.weight.detach().clone()
    with EventStorage(10):
        losses = model(tiny_data.random_batch())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return float((model.backbone.conv1.weight - before).abs().sum())


@fault
def frozen_bn_in_train_mode_after_an_evaluation():
    _, model = made_model()
    hook = LayerFreeze(model, ["backbone"], 10)
    trainer = Ran([hook])
    trainer.iter = 0
    hook.before_step()
    frozen = model.backbone.bn1.training
    model.eval()
    model.train(True)  # as fast-reid's inference_context does
    trainer.iter = 1
    hook.before_step()
    return [frozen, model.backbone.bn1.training]


@fault
def ddp_of_a_cpu_model():
    distributed = fastreid.engine.defaults.DistributedDataParallel
    torch.distributed.init_process_group("gloo", init_method=f"file://{Path('ddp').absolute()}", world_size=1, rank=0)
    try:
        distributed(torch.nn.Linear(1, 1), device_ids=[0])
    finally:
        torch.distributed.destroy_process_group()


@fault
def workers_of_the_test_loader_are_configured():
    cfg = tiny_data.host_cfg()
    return "num_workers" in fastreid.data.build._test_loader_from_config(cfg, test_set=[])


@fault
def numpy_scalar_in_a_checkpoint():
    Path("scalar").mkdir()
    checkpointer = Checkpointer(torch.nn.Linear(1, 1), "scalar", save_to_disk=True)
    checkpointer.save("scalar", metric=np.float64(1.5))
    checkpointer.load("scalar/scalar.pth")


@functools.cache
def errors_of_a_new_process() -> list[str]:
    """Returns the errors of a new process that unpickles a data set, and then imports fast-reid twice."""
    pickled = pickle.dumps(CommDataset([("a.png", "p", "c")]))
    code = f"""
import pickle, sys, types

def tell(function):
    try:
        function()
    except Exception as error:
        print(type(error).__name__, error)

def load():
    import fastreid.data

tell(lambda: pickle.loads({pickled!r}))
tell(load)
sys.modules["torch._six"] = types.SimpleNamespace(string_classes=str)
tell(load)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.splitlines()


@fault
def plain_imports():
    """Returns the errors without torch._six, and with torch._six but without collections.Mapping."""
    return errors_of_a_new_process()[1:]


@fault
def spawned_worker_without_the_plugin():
    return errors_of_a_new_process()[0]


@fault
def a_name_registered_twice():
    DATASET_REGISTRY.register(type("Market1501", (), {"__module__": "theirs"}))


@fault
def truncated_image():
    Image.new("RGB", (64, 128)).save("whole.jpg")
    Path("cut.jpg").write_bytes(Path("whole.jpg").read_bytes()[:-100])
    read_image("cut.jpg").load()


@fault
def cross_entropy():
    """Returns the values that the patched function must give; this is no fault."""
    from fastreid.modeling.losses import cross_entropy_loss

    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float()
    return [float(cross_entropy_loss(logits, torch.tensor([0, 2, 1, 2]), eps)) for eps in (0.1, -1.0)]


@fault
def waits_of_a_training_step():
    """Counts the calls of ``Tensor.item()`` in a step; each makes the CPU wait for a GPU."""
    cfg, model = made_model()
    optimizer, wrapper = build_optimizer(cfg, model)
    item, asked = torch.Tensor.item, []
    with mock.patch.object(torch.Tensor, "item", lambda self: asked.append(1) or item(self)), EventStorage():
        trainer = SimpleTrainer(model, [tiny_data.random_batch()], optimizer, wrapper)
        with mock.patch("torch.cuda.stream"):
            trainer.run_step()
    return len(asked)
