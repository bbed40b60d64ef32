"""Cost of a model (parameters, operations, seconds of a step) and of a whole run (steps and evaluations)."""

from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from igoas_plugin.config import image_size
from igoas_plugin.core.allocator import keep_on_cpu
from igoas_plugin.core.run_progress import ensured_storage
from igoas_plugin.core.timing import measure, random_batch
from igoas_plugin.datasets.reading import open_data
from igoas_plugin.fastreid_fixes.amp import amp_dtype, autocast_to
from igoas_plugin.fastreid_fixes.device import usable_device
from igoas_plugin.preflight import build_scratch_model, check_test_data, check_training_data


class Cost(NamedTuple):
    """Size of a model.

    Args:
        parameters: number of parameters that the descriptor depends on, so without the classifiers.
        flops: floating-point operations for the descriptor of one image. A multiplication and an addition count as two.
    """

    parameters: int
    flops: int


class Workload(NamedTuple):
    """Amount of work in one run.

    Args:
        iterations: iterations of one epoch.
        evaluations: number of evaluations, each on all test sets.
        test_batches: batches of one evaluation.
        images: number of images in every split, and of training identities.
    """

    epochs: int
    iterations: int
    evaluations: int
    test_batches: int
    images: dict[str, int]

    def seconds(self, step: float, test_batch: float) -> float:
        """Returns the seconds of the run, given the seconds of a training step and of a test batch."""
        return self.epochs * self.iterations * step + self.evaluations * self.test_batches * test_batch


def cost_of(cfg) -> Cost:
    """Measures the model of a config, with random weights, at INPUT.SIZE_TEST."""
    model = build_scratch_model(cfg, identities=2).eval().requires_grad_(True)
    image = random_batch(image_size(cfg, "TEST"), 1, torch.device("cpu"))
    model(image).sum().backward()
    used = [parameter for parameter in model.parameters() if parameter.grad is not None]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return Cost(sum(parameter.numel() for parameter in used), counter.get_total_flops())


MEASURED = 8  # images of a batch that is measured on a CPU, whose time grows with the number of images


def seconds_per_step(cfg, steps: int = 1) -> tuple[float, float]:
    """Measures the median seconds of a training step and of a test batch, on random images.

    A training step is forward and backward only: the optimiser and the data loader are not measured. The first step of
    each kind is a warm-up. On a CPU batches of MEASURED images are measured, and the time of a whole batch is
    calculated from them.
    """
    device = torch.device(usable_device(cfg.MODEL.DEVICE))
    model = build_scratch_model(cfg, identities=2).to(device)
    batches = [cfg.SOLVER.IMS_PER_BATCH, cfg.TEST.IMS_PER_BATCH]
    sizes = [min(batch, MEASURED) if device.type == "cpu" else batch for batch in batches]
    dtype = amp_dtype(device.type, cfg.SOLVER.AMP.DTYPE) if cfg.SOLVER.AMP.ENABLED else None
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK  # a training sets it too, and its evaluations keep it
    keep_on_cpu(model)  # trainings and evaluations do so too

    def train() -> None:
        with autocast_to(dtype, device.type), ensured_storage():
            sum(model.train()(random_batch(image_size(cfg, "TRAIN"), sizes[0], device)).values()).backward()

    @torch.no_grad()
    def evaluate() -> None:
        model.eval()(random_batch(image_size(cfg, "TEST"), sizes[1], device))

    # measured one after the other, so that both can use all of the memory
    rows = [measure({"step": work}, "cost", steps, device=device)[0] for work in (train, evaluate)]
    step, test_batch = (row.median * batch / size for row, batch, size in zip(rows, batches, sizes, strict=True))
    return step, test_batch


def workload_of(cfg) -> Workload:
    """Counts the images, steps and evaluations of a run.

    Raises:
        InputError: a data set is missing or cannot be used.
    """
    identities, images = check_training_data(cfg)
    batches, last_gallery, counts = 0, None, {"training identities": identities, "training images": images}
    for name in cfg.DATASETS.TESTS:
        check_test_data(name, cfg.TEST.CAMERA_RULE, cfg.TEST.NFC.ENABLED)
        data = open_data(name)
        counts |= {f"{name} queries": len(data.query), f"{name} gallery": len(data.gallery)}
        # an evaluation keeps the descriptors of a gallery for the next test set
        described = len(data.query) + (0 if data.gallery == last_gallery else len(data.gallery))
        batches, last_gallery = batches - -described // cfg.TEST.IMS_PER_BATCH, data.gallery
    epochs, period = cfg.SOLVER.MAX_EPOCH, cfg.TEST.EVAL_PERIOD
    evaluations = sum(1 for done in range(1, epochs + 1) if done == epochs or (period > 0 and done % period == 0))
    return Workload(epochs, images // cfg.SOLVER.IMS_PER_BATCH, evaluations, batches, counts)
