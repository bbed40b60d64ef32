"""Which checkpoints of a run stay, and which one a resume begins with."""

import logging
import os
import re

from fastreid.engine.hooks import PeriodicCheckpointer, PeriodicWriter
from fastreid.utils.checkpoint import Checkpointer

from igoas_plugin.errors import DamagedCheckpoint, InputError

from .fix import fix
from .hooks import extend_hooks

logger = logging.getLogger("fastreid.igoas_plugin")

PERIODIC = re.compile(r"model_(\d{4,})\.pth")
INTERRUPTED = "model_interrupted"  # what a signal leaves, until the next checkpoint is written

resume_or_load_on_host, save_and_tag = Checkpointer.resume_or_load, Checkpointer.save
save_after_epoch = PeriodicCheckpointer.after_epoch


def resume_or_load(self, path, *, resume=True):
    """Checkpointer.resume_or_load; a checkpoint that is damaged or gone is named, and the one before is resumed.

    Raises:
        InputError: none of the run's checkpoints can be read, or the first that can does not fit.
    """
    if not (resume and self.has_checkpoint()):
        return resume_or_load_on_host(self, path, resume=False)
    for checkpoint in newest_first(self.save_dir, self.get_checkpoint_file()):
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


def newest_first(folder: str, last: str) -> list[str]:
    """Paths of a run's checkpoints: the one that is named as the last, then the others by the time of their writing."""
    others = [os.path.join(folder, name) for name in os.listdir(folder) if re.fullmatch(r"model_\w+\.pth", name)]
    return [last, *sorted(set(others) - {last}, key=os.path.getmtime, reverse=True)]


def save(self, name, **kwargs):
    """Checkpointer.save; what an interruption has left is outdated then."""
    save_and_tag(self, name, **kwargs)
    outdated = os.path.join(self.save_dir, f"{INTERRUPTED}.pth")
    if name != INTERRUPTED and self.save_to_disk and os.path.isfile(outdated):
        os.remove(outdated)


def after_epoch(self):
    """PeriodicCheckpointer.after_epoch; keeps as many periodic checkpoints as SOLVER.CHECKPOINT_KEEP says."""
    save_after_epoch(self)
    keep, folder = self.trainer.cfg.SOLVER.get("CHECKPOINT_KEEP", 0), self.checkpointer.save_dir
    if keep > 0:
        numbered = sorted((int(found[1]), found[0]) for found in map(PERIODIC.fullmatch, os.listdir(folder)) if found)
        last = os.path.basename(self.checkpointer.get_checkpoint_file())
        for _, name in numbered[:-keep]:
            if name != last:
                os.remove(os.path.join(folder, name))


@fix
def resume_from_a_checkpoint_that_is_whole() -> None:
    """A damaged last checkpoint ends the resume in a traceback, though the one before it would serve."""
    Checkpointer.resume_or_load, Checkpointer.save = resume_or_load, save


@fix
def keep_some_checkpoints() -> None:
    """A long training fills the disk: the host keeps every periodic checkpoint. See SOLVER.CHECKPOINT_KEEP."""
    PeriodicCheckpointer.after_epoch = after_epoch


@fix
def log_an_epoch_before_its_checkpoint() -> None:
    """A run that is killed between a checkpoint and the line of its epoch never has that line in metrics.json."""

    def move(trainer, hooks):
        writers = [hook for hook in hooks if isinstance(hook, PeriodicWriter)]
        at = next((at for at, hook in enumerate(hooks) if isinstance(hook, PeriodicCheckpointer)), len(hooks))
        others = [hook for hook in hooks[at:] if hook not in writers]
        return [*(hook for hook in hooks[:at] if hook not in writers), *writers, *others]

    extend_hooks(move)
