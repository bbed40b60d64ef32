"""Checkpoints of a run: how they are written and read, which of them stay, and which one a resume begins with."""

import contextlib
import json
import logging
import os
import re

import torch
from fastreid.engine.hooks import PeriodicCheckpointer
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import get_event_storage
from torch import nn

from igoas_plugin.checkpoint.checkpoint_file import is_safetensors, load_file
from igoas_plugin.checkpoint.model_settings import differing, model_settings
from igoas_plugin.core.errors import DamagedCheckpoint, InputError
from igoas_plugin.core.files import write_atomically
from igoas_plugin.fastreid_fixes.fix import fix

logger = logging.getLogger("fastreid.igoas_plugin")

CLASSIFIER = re.compile(r"(^|\.)(\w*heads?|heads\.\w*classifier)\.(weight|bias)$")
NOTHING = re.compile(r"(?!)")
PERIODIC = re.compile(r"model_(\d{4,})\.pth")
CHECKPOINT = re.compile(r"model_\w+\.pth")
INTERRUPTED = "model_interrupted"  # what a signal leaves, until the next checkpoint is written
LIST = "earlier_checkpoints.txt"  # names, one a line; it goes as the last one is replaced

load_on_host, load_model_on_host = Checkpointer.load, Checkpointer._load_model
resume_or_load_on_host, before_train_on_host = Checkpointer.resume_or_load, PeriodicCheckpointer.before_train


# Writing


def save(self, name, **kwargs):
    """Checkpointer.save, atomically: the weights first, then the file that names them as the last ones.

    What an interruption has left is outdated then.
    """
    if not self.save_dir or not self.save_to_disk:
        return
    data = {"model": self.model.state_dict()}
    data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
    if settings := settings_of(self.model):
        data["settings"] = json.dumps(settings)
    data.update(kwargs)
    path = os.path.join(self.save_dir, f"{name}.pth")
    self.logger.info(f"Saving checkpoint to {path}")
    write_atomically(path, lambda file: torch.save(data, file))
    self.tag_last_checkpoint(os.path.basename(path))
    take_over(self.save_dir, f"{name}.pth")
    outdated = os.path.join(self.save_dir, f"{INTERRUPTED}.pth")
    if name != INTERRUPTED and os.path.isfile(outdated):
        os.remove(outdated)


def tag_last_checkpoint(self, last_filename_basename):
    write_atomically(
        os.path.join(self.save_dir, "last_checkpoint"), lambda file: file.write(last_filename_basename.encode())
    )


def settings_of(model: nn.Module) -> dict[str, object] | None:
    """Returns the config keys that a model's descriptors depend on; None of a model that build_model() has not made."""
    cfg = getattr(model, "built_from", None)
    return model_settings(cfg) if cfg is not None and "IGOAS" in cfg.MODEL else None


@fix
def write_checkpoints_atomically() -> None:
    """A kill during a save leaves a torn checkpoint, already named as the last one: files are written in place.

    A checkpoint also does not say of which config it is: of one that does not fit, names of tensors are all there is.
    """
    Checkpointer.save = save
    Checkpointer.tag_last_checkpoint = tag_last_checkpoint


# Reading


def load(self, path, checkpointables=None):
    """Checkpointer.load; refuses a file of another architecture.

    Raises:
        InputError: as load_file(); anything but classifier weights (on a resume: anything) is missing or has another
            shape; or, on a resume, the optimiser's state is that of other parameter groups or another optimiser.
    """
    if path:
        self._source = path
        if not os.path.isfile(self.path_manager.get_local_path(path)):
            raise InputError(f"checkpoint {path} does not exist: set MODEL.WEIGHTS to a file written by a training")
    optimizer = self.checkpointables.get("optimizer") if checkpointables is None else None
    self._resuming = optimizer is not None
    if self._resuming and is_safetensors(path):
        raise InputError(
            f"--resume needs the .pth of a training, and {path} holds weights only: give it as MODEL.WEIGHTS"
        )
    if optimizer is None:
        return load_on_host(self, path, checkpointables)
    asked = settings(self.checkpointables)
    try:
        checkpoint = load_on_host(self, path, checkpointables)
        require_settings(optimizer)
        warn_of_settings(path, asked, settings(self.checkpointables))
        return checkpoint
    except InputError:
        raise
    # KeyError: Adam misses its own names in the state of SGD; the others: no state of an optimiser at all
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"checkpoint {path} cannot be resumed with other SOLVER or FREEZE settings than before: "
            f"{' '.join(str(error).split())}"
        ) from error


def require_settings(optimizer: torch.optim.Optimizer) -> None:
    """Raises ValueError where groups or state, as they were loaded, are those of another optimiser or of other groups.

    The host's flat buffers hide how many parameters a group has: only the sizes of the state tell.
    """
    for group in optimizer.param_groups:
        if missing := optimizer.defaults.keys() - group.keys():
            raise ValueError(f"{type(optimizer).__name__} needs {', '.join(sorted(missing))}, which was not saved")
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape != parameter.shape:
                    raise ValueError(f"{name} of a group was saved for {value.numel()} values, not {parameter.numel()}")


# What the config sets in an optimiser or a schedule, and a checkpoint then overwrites
SETTINGS = ("initial_lr", "weight_decay", "momentum", "nesterov", "betas", "milestones", "gamma", "T_max", "eta_min")


def settings(checkpointables: dict) -> set[tuple[str, str]]:
    """(name, value) of every setting of the optimiser and the schedules."""
    states = [each.state_dict() for each in checkpointables.values() if hasattr(each, "state_dict")]
    nodes = [node for state in states for node in state.get("param_groups", [state])]
    return {(name, str(node[name])) for node in nodes for name in SETTINGS if name in node}


def warn_of_settings(path: str, asked: set[tuple[str, str]], loaded: set[tuple[str, str]]) -> None:
    """Names what the config asks for in vain: an optimiser and schedules go on as they were saved."""
    in_both = {name for name, _ in asked} & {name for name, _ in loaded}
    if changed := sorted({name for name, _ in asked ^ loaded} & in_both):
        told = "; ".join(f"{name} {', '.join(sorted(v for n, v in loaded if n == name))}" for name in changed)
        logger.warning(
            f"{path} is resumed with the SOLVER settings that it was saved with; where the config differs it has no "
            f"effect: {told}"
        )


def saved_settings(checkpoint: dict) -> dict | None:
    """The settings of the model that a checkpoint was saved from; None where it holds none."""
    try:
        settings = json.loads(checkpoint["settings"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) else None


def load_model(self, checkpoint):
    """Checkpointer._load_model; raises InputError where it would leave parts of the model at their random start."""
    incompatible = load_model_on_host(self, checkpoint)
    wrong = {name: "is missing" for name in incompatible.missing_keys}
    # the host counts a tensor of another shape as missing too
    wrong |= {name: f"has shape {theirs}, not {ours}" for name, theirs, ours in incompatible.incorrect_shapes}
    tolerated = NOTHING if getattr(self, "_resuming", False) else CLASSIFIER
    bad = [f"{name} {what}" for name, what in wrong.items() if not tolerated.search(name)]
    own, saved = settings_of(self.model), saved_settings(checkpoint)
    keys = differing(own, saved) if own and saved else []
    if bad:
        shown = "; ".join(bad[:5]) + (f"; and {len(bad) - 5} more" if len(bad) > 5 else "")
        told = f". Keys of the config, here and there: {', '.join(keys)}" if keys else ""
        raise InputError(
            f"checkpoint {getattr(self, '_source', '')} does not fit the model: {shown}{told}. Use its own config"
        )
    if keys:
        logger.warning(
            f"checkpoint {getattr(self, '_source', '')} is of a model with other settings, here and there: "
            f"{', '.join(keys)}"
        )
    if extra := [name for name in incompatible.unexpected_keys if not CLASSIFIER.search(name)]:
        logger.warning(
            f"checkpoint {getattr(self, '_source', '')} holds {len(extra)} tensors that the model has no place for "
            f"({', '.join(extra[:5])}{', ...' if len(extra) > 5 else ''}): is it of another config?"
        )
    return incompatible


def resume_or_load(self, path, *, resume=True):
    """Checkpointer.resume_or_load; a checkpoint that is damaged or gone is named, and the one before is resumed.

    Raises:
        InputError: none of the run's checkpoints can be read, or the first that can does not fit; or there are some
            and no last_checkpoint.
    """
    checkpoints = newest_first(self) if resume else []
    if not checkpoints:
        return resume_or_load_on_host(self, path, resume=False)
    for checkpoint in checkpoints:
        if not os.path.isfile(checkpoint):
            logger.warning(f"checkpoint {checkpoint} is gone; the checkpoint before it is tried")
            continue
        try:
            return self.load(checkpoint)
        except DamagedCheckpoint as error:
            logger.warning(f"{error}; the checkpoint before it is tried")
    raise InputError(
        f"no checkpoint in {self.save_dir} can be read: start anew without --resume, in another OUTPUT_DIR"
    )


def newest_first(checkpointer: Checkpointer) -> list[str]:
    """Paths of a run's checkpoints: the one that is named as the last, then the others by the time of their writing.

    Raises:
        InputError: none is named as the last: they were copied, and which one is meant is not known.
    """
    folder = checkpointer.save_dir
    strangers = earlier_checkpoints(folder)
    names = checkpoints_in(folder) - strangers
    if not checkpointer.has_checkpoint():
        if not names:
            return []
        raise InputError(
            f"{folder} has checkpoints and no last_checkpoint: write the name of the one to resume into "
            f"{os.path.join(folder, 'last_checkpoint')} ({', '.join(sorted(names)[:5])}), or name another OUTPUT_DIR"
        )
    last = checkpointer.get_checkpoint_file()
    others = {os.path.join(folder, name) for name in names} - {last}
    newest = [] if os.path.basename(last) in strangers else [last]
    return [*newest, *sorted(others, key=os.path.getmtime, reverse=True)]


@fix
def load_checkpoints_safely() -> None:
    """A checkpoint of another architecture loads with a log line, and random weights are evaluated.

    Also: torch >= 2.6 refuses checkpoints that hold numpy scalars, older versions execute whatever a file holds, and a
    damaged last checkpoint ends the resume in a traceback, though the one before it would serve.
    """
    Checkpointer._load_file = lambda self, path: load_file(path)
    Checkpointer._load_model = load_model
    Checkpointer.load = load
    Checkpointer.resume_or_load = resume_or_load


# Which ones stay


def best_of(folder: str) -> dict | None:
    """The best checkpoint of a run; None where there is none of its own, or, with a warning, where it is damaged."""
    path = os.path.join(folder, "model_best.pth")
    if not os.path.isfile(path) or os.path.basename(path) in earlier_checkpoints(folder):
        return None
    try:
        return load_file(path)
    except DamagedCheckpoint as error:
        logger.warning(f"{error}; the next evaluation gives the best one")
        return None


def before_train(self):
    """PeriodicCheckpointer.before_train; a resumed run remembers how good its best checkpoint is."""
    before_train_on_host(self)
    if self.trainer.start_epoch > 0 and (best := best_of(self.checkpointer.save_dir)):
        self.best_metric = best.get("metric", -1)
        logger.info(f"Best metric so far: {self.best_metric:.2f} (model_best.pth)")


def step(self, epoch, **state):
    """PeriodicCheckpointer.step; saves the best, periodic and final checkpoint, each with its own evaluation's metric.

    The metric is -1 where the epoch was not evaluated.
    """
    storage = get_event_storage()
    evaluated_now = storage.latest().get(self.metric_name, (-1, None))[1] == storage.iter
    state["metric"] = state.get("metric", -1) if evaluated_now else -1
    state["epoch"] = int(epoch)
    if state["metric"] > self.best_metric:
        self.best_metric = state["metric"]
        self.checkpointer.save("model_best", **state)
    if epoch >= self.max_epoch - 1:
        self.checkpointer.save("model_final", **state)
    elif self.period > 0 and (epoch + 1) % self.period == 0:
        self.checkpointer.save(f"model_{epoch:04d}", **state)
    remove_old(self.checkpointer, self.trainer.cfg.SOLVER.get("CHECKPOINT_KEEP", 0))


def remove_old(checkpointer: Checkpointer, keep: int) -> None:
    """Removes periodic checkpoints of this run but the newest `keep`, and the last one; 0 keeps all."""
    if keep <= 0:
        return
    own = checkpoints_in(checkpointer.save_dir) - earlier_checkpoints(checkpointer.save_dir)
    numbered = sorted((int(found[1]), found[0]) for found in map(PERIODIC.fullmatch, own) if found)
    last = os.path.basename(checkpointer.get_checkpoint_file())
    for _, name in numbered[:-keep]:
        if name != last:
            os.remove(os.path.join(checkpointer.save_dir, name))


@fix
def keep_the_best_checkpoint() -> None:
    """A worse model overwrites model_best.pth after a resume, and a best evaluation between two periods is lost.

    fast-reid does not restore the best metric, looks for a best model only where a periodic checkpoint is due, and then
    pairs these weights with the metric of an older evaluation. Upstream: fast-reid #665. And it keeps every periodic
    checkpoint, so that a long training fills the disk: see SOLVER.CHECKPOINT_KEEP.
    """
    PeriodicCheckpointer.before_train = before_train
    PeriodicCheckpointer.step = step


# Checkpoints that an earlier training left in a folder: one that starts anew there must not go on with them


def checkpoints_in(folder: str) -> set[str]:
    """Names of all checkpoints in a folder."""
    try:
        return {name for name in os.listdir(folder) if CHECKPOINT.fullmatch(name)}
    except FileNotFoundError:
        return set()


def earlier_checkpoints(folder: str) -> set[str]:
    """Names of the checkpoints in a folder that an earlier training has left there.

    Raises:
        InputError: the list of them cannot be read.
    """
    path = os.path.join(folder, LIST)
    try:
        with open(path, errors="replace") as file:
            return set(file.read().split())
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}: remove it, or name another OUTPUT_DIR") from None


def leave_to_earlier_run(folder: str) -> set[str]:
    """Makes all checkpoints in a folder those of an earlier training: they stay, and are not resumed.

    Returns:
        Their names.
    """
    names = checkpoints_in(folder)
    if names:
        _write(folder, names)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, "last_checkpoint"))
    return names


def take_over(folder: str, name: str) -> None:
    """Makes a checkpoint one of the training that has just replaced it."""
    names = earlier_checkpoints(folder)
    if name in names:
        _write(folder, names - {name})


def _write(folder: str, names: set[str]) -> None:
    path = os.path.join(folder, LIST)
    if names:
        write_atomically(path, lambda file: file.write("\n".join(sorted(names)).encode()))
    else:
        os.remove(path)
