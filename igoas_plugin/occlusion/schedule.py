"""Schedules of the occluded share of the image, as training goes on."""

from dataclasses import dataclass

from igoas_plugin.core.errors import InputError, require_choice
from igoas_plugin.core.run_progress import RunProgress


def require_share(name: str, share: float) -> None:
    """Raises InputError if a share of the image is not in (0, 1)."""
    if not 0 < share < 1:
        raise InputError(f"{name}, a share of the image, must be in (0, 1), got {share:.4g}")


def require_epochs(epochs: int) -> None:
    """Raises InputError if a schedule has no epoch."""
    if epochs < 1:
        raise InputError(f"MODEL.OCCLUSION.EPOCHS, or SOLVER.MAX_EPOCH if that is 0, must be 1 or more, got {epochs}")


@dataclass(frozen=True)
class ReleasedSchedule:
    """Schedule that grows linearly by epoch up to the end of a ramp, and is then constant.

    Source: the released code of IGOAS: 0.1 + 0.4 * epoch / 90 for epoch <= 55, then 1/3.

    Args:
        epochs: number of epochs that the schedule spans.
        start: share in epoch 0, in (0, 1).
        slope: growth of the share over all epochs, if the ramp did not end before.
        ramp: part of the epochs in which the share grows, in [0, 1].
        final: share after the ramp, in (0, 1).

    Raises:
        InputError: a share is not in (0, 1), the ramp is not in [0, 1], or there is no epoch.

    Example:
        >>> schedule = ReleasedSchedule(epochs=90)
        >>> [round(schedule.at_epoch(epoch), 4) for epoch in (0, 45, 55, 56)]
        [0.1, 0.3, 0.3444, 0.3333]
    """

    epochs: int
    start: float = 0.1
    slope: float = 0.4
    ramp: float = 55 / 90
    final: float = 1 / 3

    def __post_init__(self):
        require_epochs(self.epochs)
        require_share("MODEL.OCCLUSION.AREA_START", self.start)
        if not 0 <= self.ramp <= 1:
            raise InputError(f"MODEL.OCCLUSION.AREA_RAMP, a part of the epochs, must be in [0, 1], got {self.ramp}")
        require_share("MODEL.OCCLUSION.AREA_START + AREA_SLOPE * AREA_RAMP", self.start + self.slope * self.ramp)
        require_share("MODEL.OCCLUSION.AREA_FINAL", self.final)

    def at_epoch(self, epoch: int) -> float:
        """Returns the share in a zero-based epoch."""
        # rounding of 90 * (55 / 90) must not end the ramp an epoch early
        if epoch <= self.epochs * self.ramp + 1e-9:
            return self.start + self.slope * epoch / self.epochs
        return self.final

    def __call__(self, progress: RunProgress) -> float:
        return self.at_epoch(progress.epoch)


@dataclass(frozen=True)
class PaperSchedule:
    """Schedule that grows linearly over all iterations.

    Source: IGOAS (TIP 2021), section III-B: s = s_l + (s_h - s_l) * t / t_max, with s_l = 0.1, s_h = 0.33.

    Args:
        epochs: number of epochs that the schedule spans; t_max is their number of iterations. Without a trainer, which
            knows the iterations of an epoch, the share grows by epochs.
        start: s_l, in (0, 1).
        final: s_h, in (0, 1).

    Raises:
        InputError: a share is not in (0, 1), or there is no epoch.

    Example:
        >>> schedule = PaperSchedule(epochs=10)
        >>> round(schedule.at(0.5), 4)
        0.215
    """

    epochs: int
    start: float = 0.1
    final: float = 0.33

    def __post_init__(self):
        require_epochs(self.epochs)
        require_share("MODEL.OCCLUSION.AREA_START", self.start)
        require_share("MODEL.OCCLUSION.AREA_FINAL", self.final)

    def at(self, done: float) -> float:
        """Returns the share after the part `done` of all iterations; it stays constant after the end."""
        return self.start + (self.final - self.start) * min(done, 1.0)

    def __call__(self, progress: RunProgress) -> float:
        if progress.iters_per_epoch:
            return self.at(progress.iteration / (self.epochs * progress.iters_per_epoch))
        return self.at(progress.epoch / self.epochs)


Schedule = ReleasedSchedule | PaperSchedule


def build_schedule(cfg) -> Schedule:
    """Builds the schedule MODEL.OCCLUSION.SCHEDULE.

    Raises:
        InputError: the name is unknown, or a value is outside its range.
    """
    keys = cfg.MODEL.OCCLUSION
    require_choice("MODEL.OCCLUSION.SCHEDULE", keys.SCHEDULE, ("released", "paper"))
    epochs = keys.EPOCHS or cfg.SOLVER.MAX_EPOCH
    if keys.SCHEDULE == "released":
        return ReleasedSchedule(epochs, keys.AREA_START, keys.AREA_SLOPE, keys.AREA_RAMP, keys.AREA_FINAL)
    return PaperSchedule(epochs, keys.AREA_START, keys.AREA_FINAL)
