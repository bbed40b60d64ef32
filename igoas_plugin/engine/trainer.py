"""Trainer: everything that the plugin adds to a run of fast-reid, with every hook in one list."""

import contextlib
import itertools
import logging
from collections.abc import Callable

from fastreid.engine import hooks
from fastreid.engine.defaults import DefaultTrainer
from fastreid.engine.train_loop import AMPTrainer, HookBase
from fastreid.utils import comm, events
from torch.optim.lr_scheduler import CosineAnnealingLR

from igoas_plugin.core.allocator import keep_on_cpu
from igoas_plugin.core.console_log import FILES_ONLY, row
from igoas_plugin.core.errors import LostWorker, PluginError
from igoas_plugin.core.files import cannot_write
from igoas_plugin.datasets.reading import open_data
from igoas_plugin.evaluation import gallery_cache
from igoas_plugin.fastreid_fixes.amp import amp_dtype, compute_in
from igoas_plugin.fastreid_fixes.async_metrics import LookAtLosses
from igoas_plugin.fastreid_fixes.fix import fix, replace_everywhere
from igoas_plugin.fastreid_fixes.freezing import FreezeNormalisation, FreezePlan
from igoas_plugin.fastreid_fixes.nonfinite import NonFiniteGuard
from igoas_plugin.modeling.fast_inference import for_evaluation
from igoas_plugin.modeling.unseen_occlusions import WarnOfUnseenOcclusions

from .checkpoints import continue_schedules, newest_first
from .distributed import AverageNormalisation
from .ema import STATE, WeightAverage
from .log_files import WriteTensorboard
from .metrics_file import remove_from
from .run_setup import CHECKPOINTS, SeedSteps, move_earlier_run
from .signals import InterruptibleEval, StopOnSignal
from .training_data import NumberedSampler
from .training_summary import SummaryTimer, architecture

logger = logging.getLogger("fastreid.igoas_plugin")
loop_logger = logging.getLogger("fastreid.engine.train_loop")  # fast-reid's own


class Trainer(DefaultTrainer):
    """Trainer of fast-reid with exact resume, signals, non-finite checks, progress line and summary.

    It replaces fast-reid's DefaultTrainer, so fast-reid's own script and subclasses of DefaultTrainer get it too. A
    subclass overrides the same methods as one of DefaultTrainer.

    Args:
        cfg: config of the run; missing keys of the plugin have their defaults.

    Attributes:
        more_hooks: functions ``(trainer) -> hook or None``. Their hooks run after each step and before an evaluation.
            Packages that import the engine, and projects, append to it.
        evaluation_is_due: whether the epoch before `start_epoch` was trained but not evaluated before a resume.
        resumed_iter: first iteration of a resumed run; None in a run that starts anew.
        stop_on_signal: hook that ends this run on a signal; None if SOLVER.CHECKPOINT_ON_SIGNAL is off.
        weight_average: hook that averages the weights; None if SOLVER.EMA is off.
    """

    more_hooks: list[Callable[[DefaultTrainer], HookBase | None]] = []
    evaluation_is_due = False
    resumed_iter: int | None = None
    stop_on_signal: StopOnSignal | None = None
    weight_average: WeightAverage | None = None

    def __init__(self, cfg):
        super().__init__(cfg)
        solver = self.cfg.SOLVER
        if isinstance(self._trainer, AMPTrainer):
            dtype = amp_dtype(self._trainer.device_type, solver.AMP.get("DTYPE", "auto"))
            if dtype != self._trainer.dtype:  # a subclass may have given a scaler of its own
                compute_in(self._trainer, dtype)
            if self.grad_scaler.is_enabled():  # a resumed run continues with its scale
                self.checkpointer.checkpointables["grad_scaler"] = self.grad_scaler
        if "ON_NONFINITE" in solver:
            self._trainer.guard = NonFiniteGuard(solver.ON_NONFINITE, solver.NONFINITE_LIMIT)

    def build_hooks(self) -> list[HookBase]:
        """Returns every hook of a run, in the order in which they run at each point of the training."""
        cfg, main = self.cfg, comm.is_main_process()
        host_hooks = {type(hook): hook for hook in super().build_hooks()}
        freeze_plan = FreezePlan.from_config(cfg)
        if cfg.SOLVER.get("CHECKPOINT_ON_SIGNAL", False):
            self.stop_on_signal = StopOnSignal()
        self.weight_average = WeightAverage.from_config(cfg, self.model)
        ordered = [
            SeedSteps(cfg.SEED) if cfg.get("SEED", -1) >= 0 else None,  # first, because any hook may draw
            LookAtLosses(),
            WarnOfUnseenOcclusions(self.model),
            SummaryTimer(),
            host_hooks[hooks.LRScheduler],
            host_hooks.get(hooks.PreciseBN),
            FreezeNormalisation(self.model, freeze_plan) if freeze_plan else None,
            AverageNormalisation(self.model) if comm.get_world_size() > 1 else None,
            self.weight_average,
            self.stop_on_signal,  # after all hooks that change the model, before all that take long
            *(make(self) for make in self.more_hooks),
            InterruptibleEval(cfg.TEST.EVAL_PERIOD, host_hooks[hooks.EvalHook]._func),
            WriteTensorboard(host_hooks[hooks.PeriodicWriter]._writers) if main else None,
            # an epoch is logged before its checkpoint, so that a resumed run does not lack its line
            host_hooks[hooks.PeriodicWriter] if main else None,
            host_hooks[hooks.PeriodicCheckpointer] if main else None,
        ]
        every_hook = [hook for hook in ordered if hook is not None]
        if self.weight_average is not None:
            self.weight_average.serve(self, every_hook)
        return every_hook

    def build_writers(self) -> list[events.EventWriter]:
        """Returns fast-reid's writers of the console, metrics.json and tensorboard.

        Raises:
            OutputError: a file cannot be opened.
        """
        try:
            return super().build_writers()
        except OSError as error:
            raise cannot_write(error.filename or self.cfg.OUTPUT_DIR, error) from error

    def resume_or_load(self, resume: bool = True) -> None:
        """Loads MODEL.WEIGHTS, or prepares a run to continue after the last iteration of its newest whole checkpoint.

        A resume also removes the iterations that will be trained again from metrics.json. The resumed run ends with
        exactly the weights of a run that was never stopped: order, augmentation and random numbers depend on SEED, rank
        and iteration alone. fast-reid's own samplers and generators start again from the beginning.

        Args:
            resume: whether to resume; a warning is logged if OUTPUT_DIR has no checkpoint.

        Raises:
            InputError: as checkpoints.resume_or_load().
        """
        folder, length = self.cfg.OUTPUT_DIR, self.iters_per_epoch
        if resume and not newest_first(self.checkpointer):
            logger.warning(f"Nothing to resume: {folder} has no last_checkpoint; training starts at epoch 1")
            resume = False
        schedule = self.scheduler.get("lr_sched")
        # of the config, which the checkpoint replaces; not of subclasses, which may have other rates
        length_now = schedule.T_max if type(schedule) is CosineAnnealingLR else None
        checkpoint = self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if not resume:
            if self.cfg.MODEL.WEIGHTS:
                logger.info(row("weights", self.cfg.MODEL.WEIGHTS))
            return
        self.start_epoch = checkpoint.get("epoch", -1) + 1
        self.evaluation_is_due = not checkpoint.get("evaluated", True)
        self.resumed_iter = self.start_epoch * length
        if checkpoint.get("iters_per_epoch") == length:
            self.resumed_iter = checkpoint["iteration"]
        elif "iteration" in checkpoint and not self.evaluation_is_due:
            logger.warning(
                f"An epoch has {length} iterations now and had {checkpoint['iters_per_epoch']}: epoch "
                f"{self.start_epoch + 1} starts again, with the weights after iteration {checkpoint['iteration']:,}"
            )
        continue_schedules(self, checkpoint, length_now)
        if STATE in checkpoint:
            logger.info(row("average", "ends, because SOLVER.EMA is off: the training goes on with the raw weights"))
        elif self.weight_average is not None and not self.weight_average.continued:
            logger.info(row("average", "begins now: the checkpoint was saved without SOLVER.EMA"))
        sampler = getattr(getattr(self.data_loader, "batch_sampler", None), "sampler", None)
        if isinstance(sampler, NumberedSampler):
            sampler.first = self.resumed_iter * self.cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
        source = getattr(self.checkpointer, "_source", folder)
        logger.info(row("resumed", f"{source}, {self.resumed_iter:,} of {self.max_iter:,} iterations are done"))
        if comm.is_main_process():
            remove_from(folder, self.resumed_iter)

    def train(self):
        """Trains the rest of the run; a finished run is only evaluated.

        Returns:
            The results of the last evaluation in the main process, None in the others.

        Raises:
            PluginError: the training ended with an error that the user can correct.
            Interrupted: a signal has ended the training, after its checkpoint was written.
        """
        if 0 < self.max_epoch <= self.start_epoch and not self.evaluation_is_due:
            logger.info(f"{self.cfg.OUTPUT_DIR} has epoch {self.max_epoch}, which is the last one; nothing is trained.")
            return self.test(self.cfg, self.model)
        if self.resumed_iter is None and comm.is_main_process():
            # default_setup() has moved them already, unless a script does not call it
            if previous := move_earlier_run(self.cfg.OUTPUT_DIR, CHECKPOINTS):
                logger.warning(f"Checkpoints of an earlier run were moved to {previous}")
        keep_on_cpu(self.model)
        self.run_epochs()
        return self._last_eval_results if comm.is_main_process() else None

    def run_epochs(self) -> None:
        """Runs the training loop; it may start inside an epoch, or with the evaluation of the epoch before."""
        length = self.iters_per_epoch
        self.iter = self.start_iter = self.start_epoch * length if self.resumed_iter is None else self.resumed_iter
        self.show_test_sets()
        loop_logger.info(f"Starting training at iteration {self.iter + 1:,} of {self.max_iter:,}", extra=FILES_ONLY)
        with events.EventStorage(self.start_iter) as self.storage:
            # without them a model and the progress line cannot know how far the run is
            self.storage.iters_per_epoch, self.storage.images_per_step = length, self.cfg.SOLVER.IMS_PER_BATCH
            self.storage.first_iter, self.storage.test_sets = self.start_iter, tuple(self.cfg.DATASETS.TESTS)
            try:
                self.before_train()
                if self.evaluation_is_due:
                    self.finish_epoch(self.start_epoch - 1)
                for self.epoch in range(self.start_epoch, self.max_epoch):  # noqa: B020
                    self.before_epoch()
                    while self.iter < (self.epoch + 1) * length:
                        self.before_step()
                        self.step_or_stop()
                        self.after_step()
                        self.iter += 1
                    self.after_epoch()
            except PluginError as error:  # the tool prints the line on the console
                loop_logger.error(f"The training ends: {error}", extra=FILES_ONLY)
                raise
            except Exception:
                loop_logger.exception("Exception during training:")
                raise
            finally:
                self.after_train()

    def step_or_stop(self) -> None:
        """Runs a step, or stops if a signal has ended the loader's workers too, so that the step has no data.

        The step asks the loader before it changes anything. After a signal a LostWorker has no other cause.
        """
        try:
            self.run_step()
        except LostWorker:
            if self.stop_on_signal is None or self.stop_on_signal.signal is None:
                raise
            self.stop_on_signal.stop(self.iter, alone=True)

    def finish_epoch(self, epoch: int) -> None:
        """Finishes an epoch whose steps and schedules are done: evaluation, logs and checkpoint."""
        self.epoch = self.storage.epoch = epoch
        self.storage.iter = self.iter - 1
        every_hook = self._hooks
        is_due = itertools.dropwhile(lambda hook: not isinstance(hook, hooks.EvalHook), every_hook)
        self._hooks = list(is_due)
        try:
            self.after_epoch()  # of a subclass too
        finally:
            self._hooks = every_hook

    def show_test_sets(self) -> None:
        """Logs the counts of the test sets; of none if a subclass has its own loader, or in further processes."""
        own_loader = getattr(self.build_test_loader, "__func__", None) is not DefaultTrainer.build_test_loader.__func__
        for name in () if own_loader or not comm.is_main_process() else self.cfg.DATASETS.TESTS:
            with contextlib.suppress(Exception):  # the evaluation says what is wrong
                open_data(name).show_test()

    @classmethod
    def build_model(cls, cfg):
        """Returns the model, and logs its architecture and number of parameters."""
        model = super().build_model(cfg)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        logger.info(row("model", f"{architecture(cfg)}, {millions:,.1f} million parameters"))
        return model

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_dir=None):
        """Returns loader and evaluator of a test set; a gallery shared with the last test set is not computed again."""
        return gallery_cache.build_evaluator(cls, cfg, dataset_name, output_dir)

    @classmethod
    def test(cls, cfg, model):
        """Evaluates a model on DATASETS.TESTS; with TEST.FAST in mixed precision.

        Returns:
            {metric: value in %} for one test set, {test set: {metric: value}} for several.
        """
        keep_on_cpu(model)
        with gallery_cache.shared_galleries(cfg):
            return super().test(cfg, for_evaluation(cfg, model))


@fix
def run_by_the_trainer_of_the_plugin() -> None:
    """A run of fast-reid is lost by a signal, changes its results by a resume, and reports little of what it does.

    Trainer replaces DefaultTrainer in every module that imported the name.
    """
    replace_everywhere(DefaultTrainer, Trainer)
