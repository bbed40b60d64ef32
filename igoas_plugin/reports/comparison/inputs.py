"""What the result of a run depends on beside its config: the images, and the weights that it starts from."""

import hashlib
import json
import os

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.files import write_atomically

from .runs import Run
from .workload import Workload

INPUTS = "inputs.json"  # in the folder of a run
WEIGHTS = ("MODEL.WEIGHTS", "MODEL.BACKBONE.PRETRAIN_PATH")


def inputs_of(run: Run, load: Workload) -> dict[str, int | str]:
    """Images of every split, and the sha256 of every file of weights that the config names."""
    model = run.cfg.MODEL
    inputs = dict(load.images)
    for key, path in zip(WEIGHTS, (model.WEIGHTS, model.BACKBONE.PRETRAIN_PATH), strict=True):
        if os.path.isfile(path):
            with open(path, "rb") as file:
                inputs[key] = hashlib.sha256(file.read()).hexdigest()
    return inputs


def refuse_other_inputs(run: Run, inputs: dict[str, int | str]) -> None:
    """Raises InputError where the folder of a run holds one that started with something else."""
    path = os.path.join(run.folder, INPUTS)
    if not (run.begun and os.path.isfile(path)):
        return
    try:
        with open(path) as file:
            earlier = dict(json.load(file))
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged: remove {run.folder}") from None
    for name in {**earlier, **inputs}:
        if earlier.get(name) != inputs.get(name):
            raise InputError(
                f"{run.folder} holds a run on other data or weights ({name}: {earlier.get(name)} then, "
                f"{inputs.get(name)} now): remove that folder, or choose another --output"
            )


def note_inputs(run: Run, inputs: dict[str, int | str]) -> None:
    """Writes down what a run starts with, where it has not begun; else as refuse_other_inputs()."""
    refuse_other_inputs(run, inputs)
    if not run.begun:
        text = json.dumps(inputs, indent=1)
        write_atomically(os.path.join(run.folder, INPUTS), lambda file: file.write(text.encode()))
