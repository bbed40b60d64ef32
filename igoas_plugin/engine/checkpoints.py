"""Checkpoints of a run: writing, reading, which ones are kept, and which one a resume continues."""

import json
import logging
import math
import os
import re

import torch
from fastreid.engine.hooks import PeriodicCheckpointer
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import get_event_storage
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from igoas_plugin.checkpoint.checkpoint_file import load_file
from igoas_plugin.checkpoint.model_settings import differing, model_settings
from igoas_plugin.core.console_log import FILES_ONLY, row
from igoas_plugin.core.errors import DamagedCheckpoint, InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.fastreid_fixes.fix import fix

from .ema import STATE, average_in_place, set_tensors

logger = logging.getLogger("fastreid.igoas_plugin")

CLASSIFIER = re.compile(r"(^|\.)(\w*heads?|heads\.\w*classifier)\.(weight|bias)$")
PERIODIC = re.compile(r"model_(\d{4,})\.pth")
CHECKPOINT = re.compile(r"model_\w+\.pth")
INTERRUPTED = "model_interrupted"  # written after a signal, removed with the next checkpoint
BEST = "model_best"  # weights alone, to evaluate; the others hold the whole state of a training, to resume
FINDING = ("has_checkpoint", "get_checkpoint_file")  # methods of Checkpointer that find the last checkpoint

host_load, host_load_model = Checkpointer.load, Checkpointer._load_model
host_log_incompatible_keys = Checkpointer._log_incompatible_keys
host_resume_or_load, host_before_train = Checkpointer.resume_or_load, PeriodicCheckpointer.before_train


# Writing


def save(self, name, **kwargs):
    """Replaces Checkpointer.save: writes the checkpoint atomically, then names it as the last one.

    It also removes the checkpoint that a signal left, which is outdated then. The best checkpoint gets the weights
    alone and is no last one. With SOLVER.EMA the weights are the average, and the raw ones stand beside it.
    """
    if not self.save_dir or not self.save_to_disk:
        return
    path = os.path.join(self.save_dir, f"{name}.pth")
    # an earlier version named its best checkpoint as the last one; it stays whole until another one takes its place
    whole = name != BEST or (os.path.isfile(path) and last_of(self) == path)
    with average_in_place(self.checkpointables):
        data = {"model": self.model.state_dict()}
        if whole:
            data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
        if settings := settings_of(self.model):
            data["settings"] = json.dumps(settings)
        data.update(kwargs)
        self.logger.info(f"Saving checkpoint to {path}", extra=FILES_ONLY)
        write_atomically(path, lambda file: torch.save(data, file))
    if not whole:
        return
    self.tag_last_checkpoint(os.path.basename(path))
    outdated = os.path.join(self.save_dir, f"{INTERRUPTED}.pth")
    if name != INTERRUPTED and os.path.isfile(outdated):
        os.remove(outdated)


def tag_last_checkpoint(self, last_filename_basename):
    """Replaces Checkpointer.tag_last_checkpoint: writes the file last_checkpoint atomically."""
    write_atomically(
        os.path.join(self.save_dir, "last_checkpoint"), lambda file: file.write(last_filename_basename.encode())
    )


def last_of(checkpointer: Checkpointer) -> str:
    """Returns the path of the last checkpoint, "" if there is none."""
    return checkpointer.get_checkpoint_file() if checkpointer.has_checkpoint() else ""


def settings_of(model: nn.Module) -> dict[str, object] | None:
    """Returns the config keys that a model's descriptors depend on, or None if build_model() did not build it."""
    cfg = getattr(model, "built_from", None)
    return model_settings(cfg) if cfg is not None and "IGOAS" in cfg.MODEL else None


@fix
def write_checkpoints_atomically() -> None:
    """A kill during a save leaves a torn checkpoint that is already named as the last one.

    A checkpoint of fast-reid also does not store its config, so a mismatch can only be reported as tensor names. The
    best one doubles the space of a run, for it holds the state of the optimiser, which no evaluation needs.
    """
    Checkpointer.save = save
    Checkpointer.tag_last_checkpoint = tag_last_checkpoint


# Reading


def load(self, path, checkpointables=None):
    """Replaces Checkpointer.load: refuses a checkpoint of another architecture, optimiser or schedule.

    Raises:
        InputError: the file is missing, or load_file() refuses it; tensors are missing or have another shape (only
            classifier weights and tensors of size 0 in the model may, except on a resume); or, on a resume, the state
            belongs to another optimiser or to other parameter groups.
    """
    if path:
        self._source = path
        if not os.path.isfile(self.path_manager.get_local_path(path)):
            raise InputError(f"checkpoint {path} does not exist: set MODEL.WEIGHTS to a file written by a training")
    optimizer = self.checkpointables.get("optimizer") if checkpointables is None else None
    self._resuming = optimizer is not None
    if optimizer is None:
        return host_load(self, path, checkpointables)
    requested = solver_settings(self.checkpointables)
    try:
        checkpoint = host_load(self, path, checkpointables)
        if self._resuming and checkpoint.get(STATE, {}).get("raw_weights"):  # of a run with SOLVER.EMA; this has none
            set_tensors(self.model, checkpoint[STATE]["raw_weights"])
        require_state_fits(optimizer)
        warn_of_settings(path, requested, solver_settings(self.checkpointables))
        return checkpoint
    except InputError:
        raise
    # KeyError: Adam does not find its names in the state of SGD; the others: the state belongs to no optimiser
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"checkpoint {path} cannot be resumed with other SOLVER or FREEZE settings than before: "
            f"{' '.join(str(error).split())}"
        ) from error


def read_checkpoint(self, path):
    """Replaces Checkpointer._load_file: reads a file safely; raises InputError if a resume finds weights only."""
    checkpoint = load_file(path)
    if getattr(self, "_resuming", False) and "optimizer" not in checkpoint:
        if getattr(self, "_resume_asked", False):
            raise InputError(
                f"--resume needs the .pth of a training, and {path} holds weights only: give it as MODEL.WEIGHTS"
            )
        self._resuming = False  # a script loads weights, and its optimiser stays as it is
    return checkpoint


def require_state_fits(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError if the loaded state belongs to another optimiser or to other parameter groups.

    fast-reid's flat buffers hide the number of parameters in a group, so the sizes of the state are compared. A
    parameter without values fits every state: the classifier of fast-reid's project FastFace draws its classes, and
    takes their values and momentum, in each step.
    """
    for group in optimizer.param_groups:
        if missing := optimizer.defaults.keys() - group.keys():
            raise ValueError(f"{type(optimizer).__name__} needs {', '.join(sorted(missing))}, which was not saved")
        for parameter in filter(torch.numel, group["params"]):
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                    raise ValueError(f"{name} of a group was saved for {value.numel()} values, not {parameter.numel()}")


# Settings that the config gives to an optimiser or a schedule, and that a loaded checkpoint overwrites
SETTINGS = (
    *("initial_lr", "weight_decay", "momentum", "nesterov", "betas"),
    *("milestones", "gamma", "eta_min", "warmup_iters", "warmup_factor", "warmup_method"),
)


def solver_settings(checkpointables: dict) -> set[tuple[str, str]]:
    """Returns (name, value) of every setting of the optimiser and the schedules."""
    states = [each.state_dict() for each in checkpointables.values()]
    nodes = [node for state in states for node in state.get("param_groups", [state])]
    return {(name, str(node[name])) for node in nodes for name in SETTINGS if name in node}


def warn_of_settings(path: str, requested: set[tuple[str, str]], loaded: set[tuple[str, str]]) -> None:
    """Logs the settings of the config that have no effect, because the checkpoint has other ones."""
    in_both = {name for name, _ in requested} & {name for name, _ in loaded}
    if changed := sorted({name for name, _ in requested ^ loaded} & in_both):
        values = "; ".join(f"{name} {', '.join(sorted(v for n, v in loaded if n == name))}" for name in changed)
        logger.warning(
            f"{path} is resumed with the SOLVER settings that it was saved with; where the config differs it has no "
            f"effect: {values}"
        )


def continue_schedules(trainer, checkpoint: dict, length: int | None) -> None:
    """Sets where the schedules of a resumed run go on, and ends a cosine schedule with the run.

    fast-reid's hook counts the warm-up from the first iteration of the run, with SOLVER.WARMUP_ITERS of the config. The
    saved warm-up takes its own number of steps, and an epoch may have had another number of iterations.

    Args:
        trainer: with the states of the checkpoint, `start_epoch` and `resumed_iter`. Its `warmup_iters` is replaced by
            the last iteration of the warm-up, or by 0 if the warm-up is over.
        checkpoint: what the trainer did not load of it.
        length: epochs after the warm-up that the config gives to a cosine schedule; None for another schedule.
    """
    schedule, warm_up = trainer.scheduler.get("lr_sched"), trainer.scheduler.get("warmup_sched")
    reached, per_epoch = getattr(schedule, "last_epoch", 0), trainer.iters_per_epoch
    if warm_up is not None and not hasattr(warm_up, "warmup_iters"):  # of a project, which steps it in its own way
        return
    end = (length or 0) + max(math.ceil(trainer.warmup_iters / per_epoch), trainer.delay_epochs)  # SOLVER.MAX_EPOCH
    dropped = checkpoint.get("warmup_sched")
    steps = left = 0  # of the saved warm-up
    if warm_up is None and isinstance(dropped, dict):
        steps = dropped.get("warmup_iters", 0)
        if reached == 0 and hasattr(schedule, "get_last_lr"):
            end_warm_up(schedule)
    elif warm_up is not None and warm_up.last_epoch > 0:
        # the warm-up is over once the schedule has begun, even if fast-reid has skipped some of its steps
        steps, left = warm_up.warmup_iters, 0 if reached else max(warm_up.warmup_iters - warm_up.last_epoch, 0)
    elif warm_up is not None:
        logger.warning("The checkpoint was saved without a warm-up, and SOLVER.WARMUP_ITERS has no effect")
    trainer.warmup_iters = trainer.resumed_iter + left if left else 0
    if length is not None:
        first = max(trainer.start_epoch, math.ceil(trainer.warmup_iters / per_epoch) - 1, trainer.delay_epochs)
        # the next step comes after the epoch `first`, counted from 0; a schedule that began with the end of a warm-up
        # has its lowest rate in the last epoch, another one would have it in the epoch after that
        warm = max(trainer.start_epoch - reached, math.ceil(steps / per_epoch)) > trainer.delay_epochs
        set_length(schedule, reached + end - first - (1 if warm else 0))


def end_warm_up(schedule: torch.optim.lr_scheduler.LRScheduler) -> None:
    """Sets the learning rates to those of the schedule, in the place of those of a warm-up that has not ended."""
    groups, rates = schedule.optimizer.param_groups, schedule.get_last_lr()
    if [group["lr"] for group in groups] != rates:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        logger.info(
            f"The saved warm-up ends here, because SOLVER.WARMUP_ITERS is 0: the learning rate is {rates[0]:.3g}"
        )


def set_length(schedule: CosineAnnealingLR, epochs: int) -> None:
    """Sets the length of a resumed cosine schedule, and the learning rates of the epoch that it has reached.

    The rates are then those of a run that had this length from its beginning. A longer run would otherwise climb back
    to its highest rate, because torch's schedule is periodic.

    Args:
        schedule: with the state of a checkpoint.
        epochs: number of epochs after the warm-up.
    """
    before, reached = schedule.T_max, schedule.last_epoch
    if epochs == before or reached > epochs or epochs < 1:  # no epoch is left for it
        return
    schedule.T_max = epochs
    if reached > 0:  # otherwise the rates are the highest, or those of the warm-up
        part, lowest = (1 + math.cos(math.pi * reached / epochs)) / 2, schedule.eta_min
        schedule._last_lr = [lowest + (highest - lowest) * part for highest in schedule.base_lrs]
        for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
            group["lr"] = rate
    logger.info(
        f"The cosine schedule takes {epochs} epochs after the warm-up now, not {before}, so that it ends with the run; "
        f"{reached} are done, and the learning rate is {schedule.optimizer.param_groups[0]['lr']:.3g}"
    )


def saved_settings(checkpoint: dict) -> dict | None:
    """Returns the settings of the model that a checkpoint was saved from, or None if it has none."""
    try:
        settings = json.loads(checkpoint["settings"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def empty_tensors(model: nn.Module) -> set[str]:
    """Returns the names of tensors of size 0: the class weights of a model that is only evaluated."""
    return {name for name, tensor in model.state_dict().items() if not tensor.numel()}


def load_model(self, checkpoint):
    """Replaces Checkpointer._load_model: raises InputError if parts of the model would keep their random weights."""
    incompatible = host_load_model(self, checkpoint)
    wrong = {name: "is missing" for name in incompatible.missing_keys}
    # fast-reid counts a tensor of another shape as missing too
    wrong |= {name: f"has shape {theirs}, not {ours}" for name, theirs, ours in incompatible.incorrect_shapes}
    if not getattr(self, "_resuming", False):
        # a head without classes, in an evaluation, keeps its class weights with size 0, under a name of its own
        empty = empty_tensors(self.model)
        wrong = {name: what for name, what in wrong.items() if name not in empty and not CLASSIFIER.search(name)}
    bad = [f"{name} {what}" for name, what in wrong.items()]
    own, saved = settings_of(self.model), saved_settings(checkpoint)
    keys = differing(own, saved) if own and saved else []
    source = getattr(self, "_source", "")
    if bad:
        shown = "; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        settings = f". Keys of the config, here and there: {', '.join(keys)}" if keys else ""
        raise InputError(f"checkpoint {source} does not fit the model: {shown}{settings}. Use its own config")
    if keys:
        logger.warning(f"checkpoint {source} is of a model with other settings, here and there: {', '.join(keys)}")
    if extra := [name for name in incompatible.unexpected_keys if not CLASSIFIER.search(name)]:
        logger.warning(
            f"checkpoint {source} holds {len(extra)} tensors that the model has no place for "
            f"({', '.join(extra[:5])}{', ...' if len(extra) > 5 else ''}): is it of another config?"
        )
    return incompatible


def log_incompatible_keys(self, incompatible):
    """Replaces Checkpointer._log_incompatible_keys; nothing is logged of tensors that have size 0 in the model."""
    empty = empty_tensors(self.model)
    missing = [name for name in incompatible.missing_keys if name not in empty]
    shapes = [each for each in incompatible.incorrect_shapes if each[0] not in empty]
    host_log_incompatible_keys(self, incompatible._replace(missing_keys=missing, incorrect_shapes=shapes))


@fix
def log_nothing_of_classifiers_without_identities() -> None:
    """Every evaluation warns of "incompatible shapes", twice for each classifier with a bias.

    Cause: a model that is only evaluated has classifiers of no identity, whose weights have size 0.
    """
    Checkpointer._log_incompatible_keys = log_incompatible_keys


def resume_or_load(self, path, *, resume=True):
    """Replaces Checkpointer.resume_or_load: names a damaged or missing checkpoint, and resumes the one before.

    Raises:
        InputError: no checkpoint of the run can be read, or the newest readable one does not fit; or there are
            checkpoints and no last_checkpoint.
    """
    checkpoints = newest_first(self) if resume else []
    if not checkpoints:
        return host_resume_or_load(self, path, resume=False)
    self._resume_asked = True
    try:
        for checkpoint in checkpoints:
            if not os.path.isfile(checkpoint):
                logger.warning(f"checkpoint {checkpoint} is gone; the checkpoint before it is tried")
                continue
            try:
                return self.load(checkpoint)
            except DamagedCheckpoint as error:
                logger.warning(f"{error}; the checkpoint before it is tried")
    finally:
        self._resume_asked = False
    raise InputError(
        f"no checkpoint in {self.save_dir} can be read: start anew without --resume, in another OUTPUT_DIR"
    )


def newest_first(checkpointer: Checkpointer) -> list[str]:
    """Returns the paths of a run's checkpoints: the one named in last_checkpoint, then the others by age, newest first.

    The best checkpoint, which holds the weights alone, is left out. last_checkpoint can name that of an earlier
    version, which is whole.

    A subclass that finds its last checkpoint in a way of its own, such as FastFace's for the weights of its classifier,
    has files of its own in the folder. It gets its last checkpoint alone.

    Raises:
        InputError: there are checkpoints and no last_checkpoint, as after a copy; which one to resume is not known.
    """
    if any(getattr(type(checkpointer), name) is not getattr(Checkpointer, name) for name in FINDING):
        return list(filter(None, [last_of(checkpointer)]))
    folder = checkpointer.save_dir
    names = checkpoints_in(folder) - {f"{BEST}.pth"}
    if not checkpointer.has_checkpoint():
        if not names:
            return []
        raise InputError(
            f"{folder} has checkpoints and no last_checkpoint: write the name of the one to resume into "
            f"{os.path.join(folder, 'last_checkpoint')} ({', '.join(sorted(names)[:5])}), or name another OUTPUT_DIR"
        )
    last = checkpointer.get_checkpoint_file()
    others = {os.path.join(folder, name) for name in names} - {last}
    return [last, *sorted(others, key=os.path.getmtime, reverse=True)]


def checkpoints_in(folder: str) -> set[str]:
    """Returns the names of all checkpoints in a folder."""
    return set(filter(CHECKPOINT.fullmatch, os.listdir(folder) if os.path.isdir(folder) else ()))


@fix
def load_checkpoints_safely() -> None:
    """A checkpoint of another architecture loads with a log line, and random weights are evaluated.

    Also: torch >= 2.6 refuses checkpoints that hold numpy scalars, older versions execute code in a file, and a damaged
    last checkpoint ends the resume in a traceback although the one before it is whole.
    """
    Checkpointer._load_file = read_checkpoint
    Checkpointer._load_model = load_model
    Checkpointer.load = load
    Checkpointer.resume_or_load = resume_or_load


# Which ones are kept


def best_of(folder: str) -> dict | None:
    """Returns the best checkpoint of a run; None if there is none, or, with a warning, if it is damaged."""
    path = os.path.join(folder, f"{BEST}.pth")
    if not os.path.isfile(path):
        return None
    try:
        return load_file(path)
    except DamagedCheckpoint as error:
        logger.warning(f"{error}; the next evaluation gives the best one")
        return None


def before_train(self):
    """Replaces PeriodicCheckpointer.before_train: a resumed run restores the metric of its best checkpoint."""
    host_before_train(self)
    if getattr(self.trainer, "start_epoch", 0) > 0 and (best := best_of(self.checkpointer.save_dir)):
        self.best_metric = best.get("metric", -1)
        logger.info(row("best", f"{self.best_metric:.1f} so far, in model_best.pth"))


def after_epoch(self):
    """Replaces PeriodicCheckpointer.after_epoch: step() gets the metric of this epoch's evaluation, -1 without one."""
    storage = get_event_storage()
    metric, iteration = storage.latest().get(self.metric_name, (-1, None))
    self.step(self.trainer.epoch, metric=metric if iteration == storage.iter else -1)


def step(self, epoch, **state):
    """Replaces PeriodicCheckpointer.step: saves the best, the periodic and the final checkpoint with their own metric.

    Args:
        epoch: number of the epoch, from 0.
        state: what else the checkpoint stores; its `metric` decides which checkpoint is the best one.
    """
    state = {"epoch": int(epoch), "metric": -1, **state}
    if state["metric"] > self.best_metric:
        self.best_metric = state["metric"]
        self.checkpointer.save(BEST, **state)
    if epoch >= self.max_epoch - 1:
        self.checkpointer.save("model_final", **state)
    elif self.period > 0 and (epoch + 1) % self.period == 0:
        self.checkpointer.save(f"model_{epoch:04d}", **state)
    if hasattr(self, "trainer"):  # not before the hook is registered
        remove_old(self.checkpointer, self.trainer.cfg.SOLVER.get("CHECKPOINT_KEEP", 0))


def remove_old(checkpointer: Checkpointer, keep: int) -> None:
    """Removes all periodic checkpoints except the newest `keep` and the last one; 0 keeps all."""
    if keep <= 0:
        return
    matches = filter(None, map(PERIODIC.fullmatch, checkpoints_in(checkpointer.save_dir)))
    numbered = sorted((int(match[1]), match[0]) for match in matches)
    last = os.path.basename(checkpointer.get_checkpoint_file())
    for _, name in numbered[:-keep]:
        if name != last:
            os.remove(os.path.join(checkpointer.save_dir, name))


@fix
def keep_the_best_checkpoint() -> None:
    """A worse model overwrites model_best.pth after a resume, and the best epoch between two periods is lost.

    fast-reid does not restore the best metric, and looks for a best model only when a periodic checkpoint is due. It
    then stores these weights with the metric of an earlier evaluation. It also keeps every periodic checkpoint, so that
    a long training fills the disk: see SOLVER.CHECKPOINT_KEEP. Upstream: fast-reid #665.
    """
    PeriodicCheckpointer.before_train, PeriodicCheckpointer.after_epoch = before_train, after_epoch
    PeriodicCheckpointer.step = step
