"""Which checkpoints of a run stay, and which one a resume begins with."""

import logging
import os
import re

from fastreid.engine.hooks import PeriodicCheckpointer, PeriodicWriter
from fastreid.utils.checkpoint import Checkpointer

from igoas_plugin.errors import DamagedCheckpoint, InputError

from .earlier_run import checkpoints_in, earlier_checkpoints, take_over
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


def save(self, name, **kwargs):
    """Checkpointer.save; what an interruption has left is outdated then."""
    save_and_tag(self, name, **kwargs)
    if not self.save_dir or not self.save_to_disk:
        return
    take_over(self.save_dir, f"{name}.pth")
    outdated = os.path.join(self.save_dir, f"{INTERRUPTED}.pth")
    if name != INTERRUPTED and os.path.isfile(outdated):
        os.remove(outdated)


def after_epoch(self):
    """PeriodicCheckpointer.after_epoch; keeps as many periodic checkpoints as SOLVER.CHECKPOINT_KEEP says."""
    save_after_epoch(self)
    keep, folder = self.trainer.cfg.SOLVER.get("CHECKPOINT_KEEP", 0), self.checkpointer.save_dir
    if keep > 0:
        own = checkpoints_in(folder) - earlier_checkpoints(folder)
        numbered = sorted((int(found[1]), found[0]) for found in map(PERIODIC.fullmatch, own) if found)
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
