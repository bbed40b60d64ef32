"""Short trainings for tests."""

import json
from argparse import Namespace
from pathlib import Path

import tiny_data  # noqa: F401  (spawned processes register TinyReID by it)
from fastreid.engine import DefaultTrainer, default_setup


def start(cfg, resume=False) -> DefaultTrainer:
    """Returns a trainer, made as in fast-reid's own script."""
    cfg = cfg.clone()
    default_setup(cfg, Namespace(resume=resume, eval_only=False, config_file=""))
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer


def stop_at(trainer, iteration: int) -> DefaultTrainer:
    """Returns the trainer; its train() will raise KeyboardInterrupt in place of that step."""
    run_step = trainer.run_step

    def step():
        if trainer.iter == iteration:
            raise KeyboardInterrupt
        run_step()

    trainer.run_step = step
    return trainer


def weights(trainer) -> dict:
    return {name: tensor.detach().clone() for name, tensor in trainer._trainer.model.state_dict().items()}


def logged(cfg) -> list[dict]:
    """Returns the lines of metrics.json."""
    return [json.loads(line) for line in (Path(cfg.OUTPUT_DIR) / "metrics.json").read_text().splitlines()]


# Parts of IGOAS that MODEL.IGOAS.FREEZE_EPOCHS leaves to the optimiser
TRAINED = ("extra_block", "attention_", "_neck.", "global_classifier", "suppression_classifier")


def frozen_names(state: dict) -> set[str]:
    """Returns the names of the parameters that MODEL.IGOAS.FREEZE_EPOCHS freezes."""
    return {name for name in state if not any(part in name for part in TRAINED)}


def unchanged(before: dict, after: dict) -> set[str]:
    """Returns the names of the tensors that are equal in both."""
    return {name for name, value in after.items() if value.equal(before[name])}
