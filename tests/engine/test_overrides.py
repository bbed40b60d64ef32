"""Methods of fast-reid that a project overrides are called by the plugin too."""

import inspect
import os
import pickle
from collections import Counter

import pytest
import torch
from fastreid.data import build_reid_train_loader
from fastreid.data.common import CommDataset
from fastreid.data.data_utils import DataLoaderX
from fastreid.data.samplers import TrainingSampler
from fastreid.data.transforms import ToTensor
from fastreid.engine import DefaultTrainer, hooks
from fastreid.engine.train_loop import AMPTrainer, HookBase, SimpleTrainer
from fastreid.evaluation import ReidEvaluator
from fastreid.modeling.heads.embedding_head import EmbeddingHead
from fastreid.modeling.meta_arch import Baseline, build_model
from fastreid.solver import build_optimizer
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import CommonMetricPrinter, EventStorage, EventWriter, JSONWriter, TensorboardXWriter
from fastreid.utils.file_io import PathManager
from fastreid.utils.params import ContiguousParams
from runs import start
from tiny_data import random_batch

from igoas_plugin.core.errors import InputError, NotFinite
from igoas_plugin.engine import trainer as trainer_file

HOOK = "before_train after_train before_epoch after_epoch before_step after_step"


def counting(base: type, names: str, calls: Counter) -> type:
    """Returns a subclass that overrides these methods; each counts its calls and calls that of the base."""

    def override(name):
        def method(self, *args, **kwargs):
            calls[f"{base.__name__}.{name}"] += 1
            return getattr(super(kind, self), name)(*args, **kwargs)

        is_class_method = isinstance(inspect.getattr_static(base, name), classmethod)
        return classmethod(method) if is_class_method else method

    kind = type(base.__name__, (base,), {name: override(name) for name in names.split()})
    return kind


def expected(base: type, names: str) -> set[str]:
    return {f"{base.__name__}.{name}" for name in names.split()}


TRAINER = (
    "auto_scale_hyperparams build_hooks build_writers build_model build_optimizer build_lr_scheduler "
    "build_train_loader build_test_loader build_evaluator test train run_step resume_or_load register_hooks " + HOOK
)
HOOKS = {
    hooks.IterationTimer: HOOK,
    hooks.LRScheduler: HOOK,
    hooks.LayerFreeze: HOOK + " freeze_specific_layer open_all_layer",
    hooks.PreciseBN: HOOK + " update_stats",
    hooks.EvalHook: HOOK + " _do_eval",
    hooks.PeriodicCheckpointer: HOOK + " step",
    hooks.PeriodicWriter: HOOK,
    HookBase: HOOK,
}
WRITERS = {each: "write close" for each in (EventWriter, CommonMetricPrinter, JSONWriter, TensorboardXWriter)}


def test_a_training_calls_what_a_subclass_of_the_trainer_a_hook_or_a_writer_overrides(baseline_cfg, tmp_path):
    calls, cfg = Counter(), baseline_cfg
    kinds = {base: counting(base, names, calls) for base, names in {**HOOKS, **WRITERS}.items()}

    class ProjectTrainer(counting(DefaultTrainer, TRAINER.replace("auto_scale_hyperparams ", ""), calls)):
        @staticmethod
        def auto_scale_hyperparams(cfg, num_classes):
            calls["Trainer.auto_scale_hyperparams"] += 1
            return DefaultTrainer.auto_scale_hyperparams(cfg, num_classes)

        def build_hooks(self):
            kinds[EventWriter].write = lambda self: calls.update(["EventWriter.write"])
            writers = [
                kinds[EventWriter](),
                kinds[CommonMetricPrinter](self.max_iter),
                kinds[JSONWriter](str(tmp_path / "metrics.json")),
                kinds[TensorboardXWriter](str(tmp_path)),
            ]
            own = Checkpointer(torch.nn.Linear(1, 1), str(tmp_path))
            return super().build_hooks() + [
                kinds[hooks.IterationTimer](),
                kinds[hooks.LRScheduler](self.optimizer, self.scheduler),
                kinds[hooks.LayerFreeze](self.model, ["backbone"], 2),
                kinds[hooks.PreciseBN](self.model, self.data_loader, 1),
                kinds[hooks.EvalHook](1, lambda: {"own": 1.0}),
                kinds[hooks.PeriodicCheckpointer](own, 1),
                kinds[hooks.PeriodicWriter](writers, 1),
                kinds[HookBase](),
            ]

    os.makedirs(cfg.OUTPUT_DIR)
    trainer = ProjectTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    wanted = expected(DefaultTrainer, TRAINER)
    for base, names in {**HOOKS, **WRITERS}.items():
        wanted |= expected(base, names)
    assert wanted - set(calls) == set()
    for name, times in {"before_epoch": 2, "after_epoch": 2, "before_step": 4, "after_step": 4}.items():
        assert {calls[f"{base.__name__}.{name}"] for base in (DefaultTrainer, *HOOKS)} == {times}, name
    assert calls["Trainer.run_step"] == 4 and calls["PeriodicCheckpointer.step"] == 2


def test_an_epoch_whose_evaluation_is_due_after_a_resume_ends_in_the_trainer_s_own_after_epoch(baseline_cfg):
    calls = Counter()
    start(baseline_cfg).train()
    path = f"{baseline_cfg.OUTPUT_DIR}/model_final.pth"
    torch.save({**torch.load(path, weights_only=True), "evaluated": False}, path)
    trainer = counting(DefaultTrainer, "after_epoch run_step", calls)(baseline_cfg)
    trainer.resume_or_load()
    before = list(trainer._hooks)
    trainer.train()
    assert calls == {"Trainer.after_epoch": 1} and trainer._hooks == before


CHECKPOINTER = (
    "save load resume_or_load has_checkpoint get_checkpoint_file tag_last_checkpoint _load_file _load_model "
    "_convert_ndarray_to_tensor _log_incompatible_keys"
)


def test_a_checkpointer_calls_what_a_subclass_overrides(tmp_path):
    calls = Counter()
    state = counting(torch.optim.SGD, "state_dict load_state_dict", calls)
    model = counting(torch.nn.Linear, "state_dict load_state_dict", calls)(1, 1)
    kind = counting(Checkpointer, CHECKPOINTER, calls)
    checkpointer = kind(model, str(tmp_path), optimizer=state(model.parameters(), lr=1.0))
    checkpointer.save("model_0000", epoch=0)
    assert checkpointer.resume_or_load("", resume=True)["epoch"] == 0
    wanted = expected(Checkpointer, CHECKPOINTER)
    for base in (torch.optim.SGD, torch.nn.Linear):
        wanted |= expected(base, "state_dict load_state_dict")
    assert wanted - set(calls) == set()


class ClassWeights(Checkpointer):
    """Second checkpointer of a run, made as FastFace makes that of PartialFC."""

    def tag_last_checkpoint(self, last_filename_basename):
        with PathManager.open(os.path.join(self.save_dir, "last_weight"), "w") as file:
            file.write(last_filename_basename)

    def has_checkpoint(self):
        return PathManager.exists(os.path.join(self.save_dir, "last_weight"))

    def get_checkpoint_file(self):
        with PathManager.open(os.path.join(self.save_dir, "last_weight"), "r") as file:
            return os.path.join(self.save_dir, file.read())


class PeriodicClassWeights(hooks.PeriodicCheckpointer):
    def step(self, epoch, **kwargs):
        self.checkpointer.save("softmax_weight" if epoch >= self.max_epoch - 1 else f"softmax_weight_{epoch:04d}")


class FaceTrainer(DefaultTrainer):
    def build_hooks(self):
        self.weights = torch.nn.Linear(1, 2)
        self.second = ClassWeights(self.weights, self.cfg.OUTPUT_DIR)
        every = super().build_hooks()
        every.insert(len(every) - 1, PeriodicClassWeights(self.second, 1))
        return every

    def resume_or_load(self, resume=True):
        super().resume_or_load(resume)
        self.second.resume_or_load("", resume=resume)


def test_a_second_checkpointer_in_the_folder_of_the_run_leaves_the_model_alone_and_is_resumed(baseline_cfg):
    folder, cfg = baseline_cfg.OUTPUT_DIR, baseline_cfg
    os.makedirs(folder)
    cfg.SOLVER.CHECKPOINT_PERIOD = 1
    trainer = FaceTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    for name in ("model_0000", "model_best", "model_final"):
        assert "backbone.conv1.weight" in torch.load(f"{folder}/{name}.pth", weights_only=True)["model"], name
    for name in ("softmax_weight_0000", "softmax_weight"):
        assert set(torch.load(f"{folder}/{name}.pth", weights_only=True)["model"]) == {"weight", "bias"}, name
    trained = trainer.weights.weight
    resumed = FaceTrainer(cfg)
    resumed.resume_or_load()
    assert resumed.start_epoch == 2 and torch.equal(resumed.weights.weight, trained)
    # a checkpoint of the model is no substitute for a damaged one of the class weights
    with open(f"{folder}/softmax_weight.pth", "wb") as file:
        file.write(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="no checkpoint in .* can be read"):
        FaceTrainer(cfg).second.resume_or_load("", resume=True)
    os.remove(f"{folder}/last_weight")  # a run that was stopped before the first of them
    assert FaceTrainer(cfg).second.resume_or_load("", resume=True) == {}


def test_a_project_s_own_metric_decides_which_checkpoint_is_the_best(baseline_cfg):
    class ByLoss(hooks.PeriodicCheckpointer):
        def after_epoch(self):
            self.step(self.trainer.epoch, metric=10.0 - self.trainer.epoch, note="mine")

    class ProjectTrainer(DefaultTrainer):
        def build_hooks(self):
            return [each for each in super().build_hooks() if type(each) is not hooks.PeriodicCheckpointer] + [
                ByLoss(self.checkpointer, 1)
            ]

    baseline_cfg.TEST.EVAL_PERIOD = 0
    os.makedirs(baseline_cfg.OUTPUT_DIR)
    ProjectTrainer(baseline_cfg).train()
    best = torch.load(f"{baseline_cfg.OUTPUT_DIR}/model_best.pth", weights_only=True)
    assert (best["epoch"], best["metric"], best["note"]) == (0, 10.0, "mine")


def test_the_hook_saves_without_a_trainer_as_fast_reid_s(tmp_path):
    hook = hooks.PeriodicCheckpointer(Checkpointer(torch.nn.Linear(1, 1), str(tmp_path)), 1, max_epoch=2)
    hook.step(0, metric=1.0)
    hook.step(1, metric=0.0)
    assert {path.stem for path in tmp_path.glob("*.pth")} == {"model_0000", "model_best", "model_final"}


class Scaler(torch.amp.GradScaler):
    """Scaler of a project that runs on a CPU."""


OPTIMIZER, SCALER, WRAPPER = "zero_grad step", "scale step update", "assert_buffer_is_valid buffer_is_valid"


@pytest.mark.parametrize("base", [SimpleTrainer, AMPTrainer])
def test_a_step_calls_what_a_subclass_overrides(baseline_cfg, base):
    calls = Counter()
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    model = build_model(baseline_cfg).train()
    wrapper = counting(ContiguousParams, WRAPPER + " make_params_contiguous", calls)(
        [{"params": [each], "lr": 0.1, "weight_decay": 0.0, "freeze_status": "normal"} for each in model.parameters()]
    )
    optimizer = counting(torch.optim.SGD, OPTIMIZER, calls)(wrapper.contiguous(), lr=0.1)
    model.forward = counting_call(model.forward, calls)
    more = [counting(Scaler, SCALER, calls)("cpu", enabled=False)] if base is AMPTrainer else []
    trainer = counting(base, "run_step _write_metrics", calls)(model, [random_batch()], optimizer, wrapper, *more)
    with EventStorage():
        trainer.run_step()
    wanted = (
        expected(base, "run_step _write_metrics")
        | expected(torch.optim.SGD, OPTIMIZER)
        | expected(ContiguousParams, WRAPPER)
    )
    if base is AMPTrainer:
        wanted |= expected(Scaler, SCALER)
        assert trainer.grad_scaler is more[0]
    assert (wanted | {"forward"}) - set(calls) == set()


def counting_call(function, calls: Counter):
    def call(*args, **kwargs):
        calls[function.__name__] += 1
        return function(*args, **kwargs)

    return call


def test_a_scaler_that_a_subclass_of_amp_trainer_makes_is_kept(baseline_cfg, monkeypatch):
    class ProjectStep(AMPTrainer):
        def __init__(self, *args):
            super().__init__(*args, grad_scaler=Scaler("cpu", enabled=False))

    monkeypatch.setattr("fastreid.engine.defaults.AMPTrainer", ProjectStep)
    baseline_cfg.SOLVER.AMP.ENABLED = True
    assert type(start(baseline_cfg).grad_scaler) is Scaler


def test_a_step_of_a_project_that_logs_nan_ends_the_run(baseline_cfg):
    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    model = build_model(baseline_cfg).train()
    optimizer, wrapper = build_optimizer(baseline_cfg, model)
    with EventStorage(7), pytest.raises(NotFinite, match=r"iteration 8: a loss .*\(losses: loss_cls nan\)"):
        SimpleTrainer(model, [], optimizer, wrapper)._write_metrics({"loss_cls": torch.tensor(float("nan"))}, 0.0)


EVALUATOR = "reset process evaluate _compile_dependencies"
MODEL = "forward preprocess_image losses"


def test_an_evaluation_and_a_model_call_what_a_subclass_overrides(baseline_cfg, monkeypatch):
    calls = Counter()

    class ProjectTrainer(DefaultTrainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name, output_dir=None):
            loader, queries = cls.build_test_loader(cfg, dataset_name)
            return loader, counting(ReidEvaluator, EVALUATOR, calls)(cfg, queries, output_dir)

        @classmethod
        def build_model(cls, cfg):
            model = super().build_model(cfg)
            model.__class__ = counting(Baseline, MODEL, calls)
            model.heads.__class__ = counting(EmbeddingHead, "forward", calls)
            return model

    os.makedirs(baseline_cfg.OUTPUT_DIR)
    baseline_cfg.SOLVER.MAX_EPOCH = 1
    ProjectTrainer(baseline_cfg).train()
    wanted = expected(ReidEvaluator, EVALUATOR) | expected(Baseline, MODEL) | expected(EmbeddingHead, "forward")
    assert wanted - set(calls) == set()


class OwnPickle(CommDataset):
    def __reduce__(self):
        return OwnPickle, (self.img_items, None)


def test_a_loader_calls_what_a_data_set_a_sampler_a_transform_and_a_storage_override(baseline_cfg, data_root):
    calls = Counter()
    items = [(str(path), f"p{path.name[0]}", "c0") for path in sorted((data_root / "TinyReID").iterdir())]
    transform = counting(ToTensor, "__call__", calls)()
    data = counting(CommDataset, "__getitem__ __len__", calls)(items, transform)
    sampler = counting(TrainingSampler, "__iter__ _infinite_indices", calls)(len(items))
    loader = build_reid_train_loader(baseline_cfg, train_set=data, sampler=sampler)
    batch = next(iter(loader))
    assert len(batch["images"]) == 8
    with EventStorage() as storage:
        storage.__class__ = counting(EventStorage, "put_scalar", calls)
        storage.put_scalars(loss=1.0)
    wanted = expected(ToTensor, "__call__") | expected(CommDataset, "__getitem__ __len__")
    wanted |= expected(TrainingSampler, "__iter__ _infinite_indices") | expected(EventStorage, "put_scalar")
    assert wanted - set(calls) == set()
    again = pickle.loads(pickle.dumps(OwnPickle(items)))
    assert again.img_items == items and issubclass(DataLoaderX, torch.utils.data.DataLoader)


def test_the_hooks_of_a_trainer_without_an_evaluation_can_be_finished(baseline_cfg):
    trainer = start(baseline_cfg)
    trainer._hooks = [each for each in trainer._hooks if not isinstance(each, hooks.EvalHook)]
    trainer.iter, trainer.storage = 2, trainer_file.events.EventStorage()
    trainer.finish_epoch(0)
    assert trainer.storage.iter == 1
