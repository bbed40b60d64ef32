"""Every registered occlusion block: what it changes, its mask, its log and its parameters."""

import numpy as np
import pytest
import torch
from failures import Failures
from fastreid.config import configurable
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from PIL import Image
from tiny_data import random_batch

import igoas_plugin
from igoas_plugin.core.errors import InputError, RunError
from igoas_plugin.occlusion import OCCLUSION_REGISTRY, OcclusionBlock, build_occlusion
from igoas_plugin.occlusion.block import occlude
from igoas_plugin.occlusion.fills import OtherImages

DRAWN = "CutoutOcclusion without a folder"
INCREMENTAL = ("IncrementalErasing", "IncrementalDrop", "PatchOcclusion", "CutoutOcclusion", DRAWN)
ONE_RECTANGLE = ("IncrementalErasing", "IncrementalDrop", "BatchRandomErasing", "SlowDropBlock")
PER_IMAGE = ("RandomErasing", "RandomDrop", "PatchOcclusion", "CutoutOcclusion", DRAWN)
ON_IMAGES = tuple(dict.fromkeys((*INCREMENTAL, *ONE_RECTANGLE, *PER_IMAGE, "MixedOcclusion")))
CLEAN = ("NoOcclusion", "BatchDropBlock")
SIZE = (96, 48)


@pytest.fixture
def cutouts(tmp_path):
    """A folder with two opaque objects with transparent borders."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for number, (height, width) in enumerate(((40, 30), (20, 50))):
        pixels = np.zeros((height + 10, width + 10, 4), dtype=np.uint8)
        pixels[5:-5, 5:-5] = (200, 10 + 100 * number, 30, 255)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def block(cutouts):
    def make(name, seed=3, **keys):
        cfg = igoas_plugin.get_cfg()
        cfg.SEED, cfg.SOLVER.MAX_EPOCH, cfg.MODEL.OCCLUSION.NAME = seed, 90, name.split()[0]
        cfg.MODEL.OCCLUSION.CUTOUTS = "" if name == DRAWN else str(cutouts)
        for key, value in keys.items():
            cfg.MODEL.OCCLUSION[key] = value
        return build_occlusion(cfg)

    return make


def images(count=4, seed=0):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def run(occluder, batch=None, iteration=100, epoch=45):
    with EventStorage(iteration) as storage:
        storage.epoch = epoch
        occluded, visible = occluder(images() if batch is None else batch)
        return occluded, visible, {name: value for name, (value, _) in storage.latest().items()}


def box_of(hidden):
    """(top, left, height, width) of the hidden pixels of one image, which must be a full rectangle."""
    rows, columns = hidden.nonzero(as_tuple=True)
    height, width = (int(each.max() - each.min() + 1) for each in (rows, columns))
    assert height * width == hidden.sum()
    return int(rows.min()), int(columns.min()), height, width


def test_every_registered_block_is_tried():
    own = {name for name, each in OCCLUSION_REGISTRY._obj_map.items() if each.__module__.startswith("igoas_plugin.")}
    assert own == {*ON_IMAGES, *CLEAN} - {DRAWN}


@pytest.mark.parametrize("name", ON_IMAGES)
def test_only_what_the_mask_hides_has_changed_and_the_input_has_not(name, block):
    before = images()
    given = before.clone()
    occluded, visible, logged = run(block(name), given)
    assert torch.equal(given, before)
    assert occluded.shape == before.shape and visible.shape == (4, 1, *SIZE)
    assert set(visible.unique().tolist()) == {0.0, 1.0}
    changed = (occluded != before).any(1, keepdim=True)
    if name == DRAWN:  # wide soft edges and spokes, which are told as visible
        assert changed[visible == 0].all()
    elif name in ("CutoutOcclusion", "MixedOcclusion"):  # a pixel around its edge is mixed, and told as visible
        edge = torch.nn.functional.max_pool2d(1 - visible, 5, 1, 2)
        assert not changed[edge == 0].any()
    else:
        assert torch.equal(changed, visible == 0)
    # the share of drawn objects is measured at 512 points, many of them at edges
    assert logged["occlusion/share"] == pytest.approx(float((1 - visible).mean()), abs=0.02 if name == DRAWN else 1e-6)


@pytest.mark.parametrize("name", ONE_RECTANGLE)
def test_the_batch_has_one_rectangle(name, block):
    for iteration in range(5):
        _, visible, logged = run(block(name), iteration=iteration)
        assert (visible == visible[:1]).all()
        box = box_of(visible[0, 0] == 0)
        assert box == tuple(int(logged[f"occlusion/{side}"]) for side in ("top", "left", "height", "width"))


@pytest.mark.parametrize("name", PER_IMAGE)
def test_each_image_has_an_occlusion_of_its_own(name, block):
    _, visible, _ = run(block(name), images(8))
    assert len({tuple(each.flatten().tolist()) for each in visible}) == 8


@pytest.mark.parametrize("name", INCREMENTAL)
@pytest.mark.parametrize("epoch, share", [(0, 0.1), (45, 0.3), (80, 1 / 3)])
def test_the_incremental_ones_follow_the_schedule(name, epoch, share, block):
    covered = [float((1 - run(block(name), iteration=each, epoch=epoch)[1]).mean()) for each in range(10)]
    # rectangles: sides are rounded to pixels; cut-outs: 5 % below the wanted size is enough, and edges are soft
    assert np.mean(covered) == pytest.approx(share, rel=0.08 if name in ("CutoutOcclusion", DRAWN) else 0.03)


@pytest.mark.parametrize("name, aspect", [("BatchRandomErasing", 4), ("RandomErasing", 2), ("RandomDrop", 2)])
def test_the_random_ones_draw_share_and_aspect_as_released_whatever_the_epoch(name, aspect, block):
    shares, aspects = [], []
    for iteration in range(60):
        _, visible, _ = run(block(name), images(3), iteration, epoch=iteration)
        for hidden in visible[:, 0] == 0:
            _, _, height, width = box_of(hidden)
            shares.append(height * width / (SIZE[0] * SIZE[1])), aspects.append(height / width)
    assert 0.24 < min(shares) < 0.3 and 0.4 < max(shares) < 0.51
    # 25 % of 96 x 48 pixels cannot be wider than 48: height / width is at least 0.5
    assert 0.45 < min(aspects) < 0.65 and 0.8 * aspect < max(aspects) < 1.1 * aspect


def test_the_slow_drop_block_is_three_tenths_of_the_height_over_the_full_width(block):
    tops = set()
    for iteration in range(40):
        _, visible, _ = run(block("SlowDropBlock"), iteration=iteration)
        top, left, height, width = box_of(visible[0, 0] == 0)
        assert (left, height, width) == (0, round(0.3 * 96), 48)
        tops.add(top)
    assert min(tops) < 10 and max(tops) > 58  # of 0 to 67


@pytest.mark.parametrize("name, fill", [
    ("IncrementalDrop", [0, 0, 0]),
    ("SlowDropBlock", [0, 0, 0]),
    ("RandomDrop", [0, 0, 0]),
    ("BatchRandomErasing", [0.4914, 0.4822, 0.4465]),
    ("RandomErasing", [0.4914, 0.4822, 0.4465]),
])  # fmt: skip
def test_the_fill_is_that_of_the_released_code(name, fill, block):
    occluded, visible, _ = run(block(name))
    hidden = occluded.permute(1, 0, 2, 3)[:, visible[:, 0] == 0]
    torch.testing.assert_close(hidden, torch.tensor(fill, dtype=torch.float32).view(3, 1).expand_as(hidden))


def test_patches_come_from_the_same_place_of_all_the_other_images(block):
    numbers, pairs = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, *SIZE), set()
    for iteration in range(40):
        occluded, visible, _ = run(block("PatchOcclusion"), numbers, iteration)
        taken = [each[:, hidden[0]].unique().tolist() for each, hidden in zip(occluded, visible == 0, strict=True)]
        assert all(len(givers) == 1 for givers in taken)
        pairs |= {(own, *givers) for own, givers in enumerate(taken)}
    assert pairs == {(own, giver) for own in range(6) for giver in range(6) if own != giver}
    position = torch.arange(float(SIZE[0])).view(1, 1, -1, 1) + 1000 * torch.arange(4.0).view(4, 1, 1, 1)
    batch = position.expand(4, 3, *SIZE)
    occluded, _, _ = run(block("PatchOcclusion"), batch)
    assert torch.equal(occluded % 1000, batch % 1000)


def test_images_that_are_filled_at_once_each_take_from_another_one():
    numbers = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, *SIZE)
    for seed in range(20):
        taken = OtherImages()(np.random.default_rng(seed), numbers, slice(None), slice(2, 4), slice(0, 5))[:, 0, 0, 0]
        assert sorted(taken.tolist()) == list(range(6)) and (taken != torch.arange(6)).all()


def test_an_image_alone_gives_to_itself():
    batch = images(1)
    filled = OtherImages()(np.random.default_rng(0), batch, slice(0, 1), slice(2, 4), slice(0, 5))
    assert torch.equal(filled, batch[..., 2:4, 0:5])


@pytest.mark.parametrize("name", [*ON_IMAGES])
def test_seed_iteration_and_rank_decide(name, block, monkeypatch):
    reference = run(block(name))[0]
    other = block(name)
    run(other, iteration=3)
    assert torch.equal(run(other)[0], reference)
    assert not torch.equal(run(block(name), iteration=101)[0], reference)
    assert not torch.equal(run(block(name, seed=4))[0], reference)
    monkeypatch.setattr("fastreid.utils.comm.get_rank", lambda: 1)
    assert not torch.equal(run(block(name))[0], reference)


def test_a_block_adds_nothing_to_a_checkpoint(block):
    assert [name for name in (*ON_IMAGES, *CLEAN) if block(name).state_dict()] == []


@pytest.mark.parametrize("name", ON_IMAGES)
def test_a_mask_of_ones_hides_what_was_occluded_and_changes_nothing_else(name, block):
    occluded, visible, logged = run(block(name, MASK="ones"))
    assert visible.eq(1).all() and visible.shape == (4, 1, *SIZE) and logged["occlusion/share"] > 0.2
    assert torch.equal(occluded, run(block(name))[0])


@pytest.mark.parametrize("name", ON_IMAGES)
def test_probability_zero_leaves_the_batch(name, block):
    occluded, visible, logged = run(block(name, PROB=0.0))
    assert torch.equal(occluded, images()) and visible.eq(1).all() and logged["occlusion/share"] == 0


@pytest.mark.parametrize("name", CLEAN)
def test_the_others_leave_the_images(name, block):
    occluded, visible, _ = run(block(name))
    assert torch.equal(occluded, images()) and visible.eq(1).all() and visible.shape == (4, 1, *SIZE)


def test_a_value_outside_its_range_is_refused(block):
    failures = Failures()
    for name in (*ON_IMAGES, *CLEAN):
        with failures.of(name), pytest.raises(InputError, match="MASK must be occluded or ones, got none"):
            block(name, MASK="none")
        with failures.of(name), pytest.raises(InputError, match=r"PROB must be in \[0, 1\], got 2.0"):
            block(name, PROB=2.0)
    assert failures == []


# On features


def test_batch_drop_block_drops_a_band_of_the_feature_map(block):
    feature_map = torch.rand(4, 7, 24, 8) + 1
    tops = set()
    for iteration in range(40):
        with EventStorage(iteration) as storage:
            dropped, visible = block("BatchDropBlock").drop(feature_map)
            share = storage.latest()["occlusion/share"][0]
        top, left, height, width = box_of(visible[0, 0] == 0)
        assert (left, height, width) == (0, 7, 8) and share == pytest.approx(7 / 24)
        assert torch.equal(dropped, feature_map * visible) and visible.shape == (4, 1, 24, 8)
        tops.add(top)
    assert len(tops) > 8
    assert block("BatchDropBlock", MASK="ones").drop(feature_map)[1].eq(1).all()
    assert torch.equal(block("BatchDropBlock", PROB=0.0).drop(feature_map)[0], feature_map)


def test_igoas_pools_the_dropped_map_and_precise_bn_the_whole_one(igoas_cfg):
    igoas_cfg.MODEL.OCCLUSION.NAME = "BatchDropBlock"
    model, seen = build_model(igoas_cfg).train(), []
    model.heads.suppression_neck.pool.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    batch = random_batch(size=(96, 32))
    with EventStorage():
        sum(model(batch).values()).backward()
        with torch.no_grad():
            model({**batch, "targets": torch.full_like(batch["targets"], -1)})
    rows = [each.abs().sum((0, 1, 3)).eq(0).tolist() for each in seen]
    assert sum(rows[0]) == round(0.3 * len(rows[0])) and sum(rows[1]) == 0


def test_the_wrapper_refuses_a_block_on_features(baseline_cfg):
    baseline_cfg.MODEL.META_ARCHITECTURE, baseline_cfg.MODEL.OCCLUSION.NAME = "OcclusionWrapper", "BatchDropBlock"
    with pytest.raises(InputError, match="BatchDropBlock drops a part of the feature map of IGOAS"):
        build_model(baseline_cfg)


# In a model


@pytest.mark.parametrize("mask", ["occluded", "ones"])
@pytest.mark.parametrize("name", [*ON_IMAGES, *CLEAN])
def test_igoas_trains_every_parameter_behind_every_block(name, mask, igoas_cfg, cutouts):
    keys = igoas_cfg.MODEL.OCCLUSION
    keys.NAME, keys.MASK, keys.CUTOUTS = name.split()[0], mask, "" if name == DRAWN else str(cutouts)
    model = build_model(igoas_cfg).train()
    with EventStorage(3) as storage:
        storage.epoch = 1
        losses = model(random_batch(images=4, size=(128, 64)))
    sum(losses.values()).backward()
    assert [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None] == []
    suppressed = losses["suppression_loss_global"].item()
    assert (suppressed > 0) == (mask == "occluded" and name != "NoOcclusion")


@pytest.mark.parametrize("name", [*ON_IMAGES, "NoOcclusion"])
def test_the_wrapper_trains_behind_every_block_on_images(name, baseline_cfg, cutouts):
    baseline_cfg.MODEL.META_ARCHITECTURE, baseline_cfg.MODEL.HEADS.NUM_CLASSES = "OcclusionWrapper", 4
    baseline_cfg.MODEL.OCCLUSION.NAME = name.split()[0]
    baseline_cfg.MODEL.OCCLUSION.CUTOUTS = "" if name == DRAWN else str(cutouts)
    with EventStorage():
        sum(build_model(baseline_cfg).train()(random_batch()).values()).backward()


def test_a_block_of_the_user_s_own_is_a_few_lines(igoas_cfg):
    class Left(OcclusionBlock):
        def occlude(self, rng, progress, images):
            visible = torch.ones(len(images), 1, *images.shape[2:])
            visible[..., : images.shape[3] // 2] = 0
            return images * visible, visible, 0.5

    occluded, visible, logged = run(Left(seed=1))
    assert logged["occlusion/share"] == 0.5 and occluded[..., :24].eq(0).all() and visible.mean() == 0.5


class WithoutConfig(torch.nn.Module):
    """Block whose constructor takes no config, as that of nn.Module."""


class WithSize(torch.nn.Module):
    """Block whose constructor needs a second argument."""

    def __init__(self, cfg, size):
        super().__init__()


class WithKeywords(OcclusionBlock):
    """Block with keywords of its own, and from_config() of the base class."""

    @configurable
    def __init__(self, *, size):
        super().__init__()


class Faulty(torch.nn.Module):
    """Block with a fault inside its constructor."""

    def __init__(self, cfg):
        super().__init__()
        self.size = len(3)


@pytest.mark.parametrize("block_class", [WithoutConfig, WithSize, WithKeywords])
def test_a_constructor_of_a_user_that_does_not_fit_ends_in_one_line(monkeypatch, block_class):
    monkeypatch.setitem(OCCLUSION_REGISTRY._obj_map, block_class.__name__, block_class)
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.OCCLUSION.NAME = name = block_class.__name__
    with pytest.raises(InputError) as caught:
        build_occlusion(cfg)
    start = f"MODEL.OCCLUSION.NAME: the class {name} of {__name__} is called as {name}(cfg), which fails: "
    assert str(caught.value).startswith(f"{start}{name}.__init__() ") and str(caught.value).endswith(
        "docs/extending.md has an example"
    )


def test_an_error_inside_the_constructor_of_a_user_stays_as_it_is(monkeypatch):
    monkeypatch.setitem(OCCLUSION_REGISTRY._obj_map, "Faulty", Faulty)
    cfg = igoas_plugin.get_cfg()
    cfg.MODEL.OCCLUSION.NAME = "Faulty"
    with pytest.raises(TypeError, match="len"):
        build_occlusion(cfg)


def test_a_block_that_returns_something_else_is_named_in_one_line():
    batch = images()
    mask = torch.ones(4, 1, *SIZE)
    wanted = r"must return \(occluded, visible\): float32 \(4, 3, 96, 48\) on cpu, and a mask \(4, 1, 96, 48\), got "
    failures = Failures()
    for result, got in (
        (batch, r"float32 \(4, 3, 96, 48\) on cpu$"),
        (None, "NoneType$"),
        ((batch,), r"\(float32 \(4, 3, 96, 48\) on cpu\)$"),
        ((batch, mask, 0.5), r"\(.*, float\)$"),
        ((batch[:2], mask), r"\(float32 \(2, 3"),
        ((batch, mask[0]), r"\(.*, float32 \(1, 96, 48\) on cpu\)$"),
        ((batch, mask.expand(-1, 3, -1, -1)), r"\(.*, float32 \(4, 3, 96, 48\) on cpu\)$"),
        ((batch.double(), mask), r"\(float64 "),
        ((batch.numpy(), mask.numpy()), r"\(ndarray, ndarray\)$"),
        ((batch.to("meta"), mask), r"\(.* on meta, "),
    ):
        with failures.of(got), pytest.raises(RunError, match="^the occlusion block block " + wanted + got):

            def block(_, result=result):
                return result

            occlude(block, batch)
    assert failures == []
    for given in ((batch, mask), [batch, mask.bool()]):
        assert all(kept is each for kept, each in zip(occlude(lambda _, given=given: given, batch), given, strict=True))
