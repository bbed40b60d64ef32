import json
import logging
import os
import re

import torch
from fastreid.engine.hooks import PeriodicCheckpointer
from fastreid.modeling import meta_arch
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import get_event_storage

from igoas_plugin.atomic_file import write_atomically
from igoas_plugin.checkpoint_file import load_file
from igoas_plugin.errors import DamagedCheckpoint, InputError
from igoas_plugin.model_settings import differing, model_settings
from igoas_plugin.safetensors_file import is_safetensors

from .earlier_run import earlier_checkpoints
from .fix import fix, replace_everywhere

logger = logging.getLogger("fastreid.igoas_plugin")


CLASSIFIER = re.compile(r"(^|\.)(\w*heads?|heads\.\w*classifier)\.(weight|bias)$")

NOTHING = re.compile(r"(?!)")


def save(self, name, **kwargs):
    """Checkpointer.save, atomically: the weights first, then the file that names them as the last ones."""
    if not self.save_dir or not self.save_to_disk:
        return
    data = {"model": self.model.state_dict()}
    data.update({key: value.state_dict() for key, value in self.checkpointables.items()})
    if hasattr(self.model, "settings"):
        data["settings"] = json.dumps(self.model.settings)
    data.update(kwargs)
    path = os.path.join(self.save_dir, f"{name}.pth")
    self.logger.info(f"Saving checkpoint to {path}")
    write_atomically(path, lambda file: torch.save(data, file))
    self.tag_last_checkpoint(os.path.basename(path))


def tag_last_checkpoint(self, last_filename_basename):
    write_atomically(
        os.path.join(self.save_dir, "last_checkpoint"), lambda file: file.write(last_filename_basename.encode())
    )


@fix
def write_checkpoints_atomically() -> None:
    """A kill during a save leaves a torn checkpoint, already named as the last one: files are written in place."""
    Checkpointer.save = save
    Checkpointer.tag_last_checkpoint = tag_last_checkpoint


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
        return host_load(self, path, checkpointables)
    asked = settings(self.checkpointables)
    try:
        checkpoint = host_load(self, path, checkpointables)
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


host_load, host_load_model = Checkpointer.load, Checkpointer._load_model


def load_model(self, checkpoint):
    """Checkpointer._load_model; raises InputError where it would leave parts of the model at their random start."""
    incompatible = host_load_model(self, checkpoint)
    wrong = {name: "is missing" for name in incompatible.missing_keys}
    # the host counts a tensor of another shape as missing too
    wrong |= {name: f"has shape {theirs}, not {ours}" for name, theirs, ours in incompatible.incorrect_shapes}
    tolerated = NOTHING if getattr(self, "_resuming", False) else CLASSIFIER
    bad = [f"{name} {what}" for name, what in wrong.items() if not tolerated.search(name)]
    own, saved = getattr(self.model, "settings", None), saved_settings(checkpoint)
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


@fix
def load_checkpoints_safely() -> None:
    """A checkpoint of another architecture loads with a log line, and random weights are evaluated.

    Also: torch >= 2.6 refuses checkpoints that hold numpy scalars, and older versions execute whatever a file holds.
    """
    Checkpointer._load_file = lambda self, path: load_file(path)
    Checkpointer._load_model = load_model
    Checkpointer.load = load


build_host_model = meta_arch.build_model


def build_model(cfg):
    """The host's function of this name; the model knows the config keys that its descriptors depend on."""
    model = build_host_model(cfg)
    if "IGOAS" in cfg.MODEL:
        model.settings = model_settings(cfg)
    return model


@fix
def save_the_settings_of_a_model() -> None:
    """A checkpoint does not say of which config it is: of one that does not fit, names of tensors are all there is."""
    replace_everywhere(build_host_model, build_model)


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
    host_before_train(self)
    if self.trainer.start_epoch > 0 and (best := best_of(self.checkpointer.save_dir)):
        self.best_metric = best.get("metric", -1)
        logger.info(f"Best metric so far: {self.best_metric:.2f} (model_best.pth)")


def after_epoch(self):
    """Saves the best, periodic and final checkpoint, each with the metric of its own evaluation (-1 where none was)."""
    storage = get_event_storage()
    metric, iteration = storage.latest().get(self.metric_name, (-1, None))
    if iteration != storage.iter:
        metric = -1
    epoch = self.trainer.epoch
    if metric > self.best_metric:
        self.best_metric = metric
        self.checkpointer.save("model_best", epoch=epoch, metric=metric)
    if epoch >= self.max_epoch - 1:
        self.checkpointer.save("model_final", epoch=epoch, metric=metric)
    elif self.period > 0 and (epoch + 1) % self.period == 0:
        self.checkpointer.save(f"model_{epoch:04d}", epoch=epoch, metric=metric)


host_before_train = PeriodicCheckpointer.before_train


@fix
def keep_the_best_checkpoint() -> None:
    """A worse model overwrites model_best.pth after a resume, and a best evaluation between two periods is lost.

    The host does not restore the best metric, looks for a best model only where a periodic checkpoint is due, and then
    pairs these weights with the metric of an older evaluation. Upstream: fast-reid #665.
    """
    PeriodicCheckpointer.before_train = before_train
    PeriodicCheckpointer.after_epoch = after_epoch
