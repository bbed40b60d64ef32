import pytest

import igoas_plugin
from igoas_plugin.core.errors import InputError
from igoas_plugin.core.run_progress import RunProgress
from igoas_plugin.occlusion.schedule import PaperSchedule, ReleasedSchedule, build_schedule


def original(epoch: int) -> float:
    """The released code, as a formula of its own."""
    return 0.1 + 0.4 * epoch / 90 if epoch <= 55 else 1 / 3


def test_released_schedule_of_90_epochs_is_the_original():
    found = [ReleasedSchedule(90).at_epoch(epoch) for epoch in range(120)]
    assert found == pytest.approx([original(epoch) for epoch in range(120)], abs=1e-12)  # the same terms, in float64


def test_a_short_run_sees_the_whole_curriculum():
    shares = [ReleasedSchedule(9).at_epoch(epoch) for epoch in range(9)]
    # 9 * 55 / 90 = 5.5: epochs 0..5 grow by 0.4 / 9, the rest is 1/3
    assert shares == pytest.approx([0.1 + 0.4 * epoch / 9 for epoch in range(6)] + [1 / 3] * 3)


def test_the_ramp_ends_where_the_fraction_says_for_every_length():
    failures = []
    for epochs in range(1, 400):
        schedule = ReleasedSchedule(epochs)
        grows = [schedule.at_epoch(epoch) != 1 / 3 for epoch in range(epochs)]
        if grows != [90 * epoch <= 55 * epochs for epoch in range(epochs)]:  # in whole numbers
            failures.append(epochs)
    assert failures == []


def test_paper_schedule_is_linear_over_all_iterations():
    schedule = PaperSchedule(epochs=10)
    shares = [schedule(RunProgress(iteration // 4, iteration, 4)) for iteration in range(45)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[20] == pytest.approx(0.215)  # half of 40 iterations
    assert shares[40] == shares[44] == pytest.approx(0.33)
    steps = [later - earlier for earlier, later in zip(shares[:40], shares[1:41], strict=True)]
    assert steps == pytest.approx([0.23 / 40] * 40)


def test_paper_schedule_goes_by_epochs_where_no_trainer_tells_their_length():
    assert PaperSchedule(epochs=10)(RunProgress(5, 1234, None)) == pytest.approx(0.215)


def test_epochs_zero_means_the_length_of_the_run():
    cfg = igoas_plugin.get_cfg()
    cfg.SOLVER.MAX_EPOCH = 33
    assert build_schedule(cfg).epochs == 33
    cfg.MODEL.OCCLUSION.EPOCHS = 90
    assert build_schedule(cfg).epochs == 90


def test_the_paper_s_schedule_runs_from_the_start_to_the_final_share_of_the_keys():
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.OCCLUSION.SCHEDULE, cfg.MODEL.OCCLUSION.EPOCHS = "paper", 10
    cfg.MODEL.OCCLUSION.AREA_START, cfg.MODEL.OCCLUSION.AREA_FINAL = 0.2, 0.3
    schedule = build_schedule(cfg)
    assert [schedule(RunProgress(0, iteration, 5)) for iteration in (0, 25, 50, 60)] == pytest.approx(
        [0.2, 0.25, 0.3, 0.3]
    )


@pytest.mark.parametrize("kind", [ReleasedSchedule, PaperSchedule])
def test_a_schedule_has_an_epoch(kind):
    with pytest.raises(InputError, match="EPOCHS, or SOLVER.MAX_EPOCH if that is 0, must be 1 or more, got 0"):
        kind(epochs=0)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("AREA_START", 0.0, r"AREA_START, .* \(0, 1\), got 0"),
        ("AREA_START", 1.0, r"AREA_START, .* \(0, 1\), got 1"),
        ("AREA_SLOPE", 1.5, r"AREA_START \+ AREA_SLOPE \* AREA_RAMP, .* got 1.017"),
        ("AREA_SLOPE", -0.4, r"AREA_SLOPE \* AREA_RAMP, .* got -0.1444"),
        ("AREA_FINAL", 1.2, r"AREA_FINAL, .* got 1.2"),
        ("AREA_RAMP", -1.0, r"AREA_RAMP, .* \[0, 1\], got -1.0"),
        ("SCHEDULE", "linear", "must be released or paper, got linear"),
        ("EPOCHS", -1, "must be 1 or more, got -1"),
    ],
)
def test_a_schedule_outside_its_range_is_refused(key, value, message):
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.OCCLUSION[key] = value
    with pytest.raises(InputError, match=message):
        build_schedule(cfg)
