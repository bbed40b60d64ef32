import re
from pathlib import Path

import pytest
from fastreid.config import get_cfg as get_fastreid_cfg

import igoas_plugin
from igoas_plugin.config import flat_keys, load_cfg, value_of
from igoas_plugin.core.errors import InputError, require_choice

DEFAULTS = {
    "IMPORTS": (), "SEED": -1, "DATALOADER.ON_ERROR": "stop", "TEST.RANKING": "auto", "TEST.FAST": False,
    "TEST.CAMERA_RULE": True,
    "TEST.NFC.ENABLED": False, "TEST.NFC.K": 5, "TEST.NFC.SIDES": "gallery", "TEST.NFC.SIMILARITY": 0.0,
    "MODEL.BACKBONE.PRETRAIN_SHA256": "",
    "SOLVER.AMP.DTYPE": "auto", "SOLVER.CHECKPOINT_ON_SIGNAL": True, "SOLVER.CHECKPOINT_KEEP": 0,
    "SOLVER.ON_NONFINITE": "stop", "SOLVER.NONFINITE_LIMIT": 10,
    "SOLVER.EMA.ENABLED": False, "SOLVER.EMA.DECAY": 0.999, "SOLVER.EMA.START": 0, "TENSORBOARD.IMAGES_PERIOD": 0,
    "MODEL.OCCLUSION.NAME": "IncrementalErasing", "MODEL.OCCLUSION.WRAPS": "Baseline", "MODEL.OCCLUSION.PROB": 1.0,
    "MODEL.OCCLUSION.SCHEDULE": "released", "MODEL.OCCLUSION.EPOCHS": 0, "MODEL.OCCLUSION.AREA_START": 0.1,
    "MODEL.OCCLUSION.AREA_SLOPE": 0.4, "MODEL.OCCLUSION.AREA_RAMP": 55 / 90, "MODEL.OCCLUSION.AREA_FINAL": 1 / 3,
    "MODEL.OCCLUSION.ASPECT_MIN": 0.5, "MODEL.OCCLUSION.FILL": "normalised",
    "MODEL.OCCLUSION.MASK": "occluded", "MODEL.OCCLUSION.CUTOUTS": "", "MODEL.OCCLUSION.TRUNCATION": 0.0,
    "MODEL.OCCLUSION.PER_IMAGE": False, "MODEL.OCCLUSION.OBJECTS": 3, "MODEL.OCCLUSION.PEDESTRIANS": 0.4,
    "MODEL.OCCLUSION.MIXED": ("IncrementalErasing", "CutoutOcclusion"),
    "MODEL.IGOAS.STEM": "torchvision", "MODEL.IGOAS.EXTRA_BLOCK": True, "MODEL.IGOAS.DESCRIPTOR": "joint",
    "MODEL.IGOAS.GLOBAL.POOL_LAYER": "GlobalAvgPool", "MODEL.IGOAS.SUPPRESSION.POOL_LAYER": "GlobalMaxPool",
    "MODEL.IGOAS.SUPPRESSION.ATTENTION": True, "MODEL.IGOAS.MASK_LOSS.SCALE": 1.0,
    "MODEL.IGOAS.MASK_LOSS.ON": "channel_mean", "MODEL.IGOAS.MASK_LOSS.BRANCHES": ("global", "suppression"),
    "MODEL.IGOAS.MASK_LOSS.RESIZE": "bilinear", "MODEL.IGOAS.MASK_LOSS.STAGES": "last",
    "MODEL.IGOAS.IMAGES": "paired", "MODEL.IGOAS.STRIPE.ENABLED": False,
    "MODEL.IGOAS.STRIPE.POOL_LAYER": "GlobalMaxPool", "MODEL.IGOAS.STRIPE.SCALE": 1 / 3,
    "MODEL.IGOAS.ID_WEIGHTS": "adaptive", "MODEL.IGOAS.COMPILE": False,
    "MODEL.IGOAS.FREEZE_EPOCHS": 0, "MODEL.IGOAS.FREEZE_JOINT": True,
}  # fmt: skip


def test_the_plugin_adds_exactly_its_keys_and_leaves_those_of_fast_reid():
    theirs, ours = get_fastreid_cfg(), igoas_plugin.get_cfg()
    added = set(flat_keys(ours)) - set(flat_keys(theirs))
    assert {key: value_of(ours, key) for key in added} == DEFAULTS
    assert [key for key in flat_keys(theirs) if value_of(ours, key) != value_of(theirs, key)] == []


def test_adding_again_overwrites_nothing_that_is_set_and_keeps_a_frozen_config_frozen():
    cfg = igoas_plugin.get_cfg()
    cfg.SEED, cfg.MODEL.IGOAS.MASK_LOSS.SCALE = 7, 3.0
    cfg.freeze()
    igoas_plugin.add_igoas_config(cfg)
    assert cfg.SEED == 7 and cfg.MODEL.IGOAS.MASK_LOSS.SCALE == 3.0 and cfg.is_frozen()


def test_two_configs_share_nothing():
    first, second = igoas_plugin.get_cfg(), igoas_plugin.get_cfg()
    first.MODEL.IGOAS.STEM = "host"
    assert second.MODEL.IGOAS.STEM == "torchvision"


def test_options_win_over_the_file(tmp_path):
    (tmp_path / "base.yml").write_text("SEED: 1\nMODEL: {IGOAS: {STEM: host}}")
    (tmp_path / "run.yml").write_text("_BASE_: base.yml\nSEED: 2")
    cfg = load_cfg(str(tmp_path / "run.yml"), ["SEED", "3"])
    assert cfg.SEED == 3 and cfg.MODEL.IGOAS.STEM == "host"


def test_bases_are_found_up_the_folders_outside_a_git_checkout(tmp_path, monkeypatch):
    project = tmp_path / "unpacked" / "projects" / "FastDistill" / "configs"
    (tmp_path / "unpacked" / "configs").mkdir(parents=True)
    project.mkdir(parents=True)
    assert not [folder for folder in project.parents if (folder / ".git").exists()]
    (tmp_path / "unpacked" / "configs" / "Base-SBS.yml").write_text("SEED: 3\nMODEL: {DEVICE: cpu}")
    (project / "sbs.yml").write_text("_BASE_: ../../../configs/Base-SBS.yml\nMODEL: {BACKBONE: {DEPTH: 101x}}")
    (project / "kd.yml").write_text("_BASE_: sbs.yml\nSEED: 4")
    monkeypatch.chdir(tmp_path)  # another folder than that of the configs
    scripts = igoas_plugin.get_cfg()
    scripts.merge_from_file("unpacked/projects/FastDistill/configs/kd.yml")
    for cfg in (load_cfg("unpacked/projects/FastDistill/configs/kd.yml"), scripts):
        assert (cfg.SEED, cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.DEPTH) == (4, "cpu", "101x")


def test_a_bare_ON_in_a_file_is_the_key_of_that_name(tmp_path, raw_host):
    assert raw_host["key_of_a_bare_ON"] == ["bool"]
    (tmp_path / "base.yml").write_text('MODEL: {IGOAS: {MASK_LOSS: {"ON": channel_mean}}}')
    (tmp_path / "run.yml").write_text("_BASE_: base.yml\nMODEL: {IGOAS: {MASK_LOSS: {ON: feature_map}}}")
    cfg = igoas_plugin.get_cfg()
    cfg.merge_from_file(str(tmp_path / "run.yml"))
    assert cfg.MODEL.IGOAS.MASK_LOSS.ON == "feature_map"


@pytest.mark.parametrize("opts", [["logs/run"], ["SEED", "1", "EXTRA"]])
def test_options_that_are_no_pairs_are_refused(opts):
    with pytest.raises(InputError, match="must be KEY VALUE pairs"):
        load_cfg("", opts)


def test_a_key_without_a_value_is_refused(tmp_path):
    (tmp_path / "run.yml").write_text("SOLVER:\n  IMS_PER_BATCH:\n")
    with pytest.raises(InputError, match="run.yml: SOLVER.IMS_PER_BATCH: there is no value; its default is 64"):
        load_cfg(str(tmp_path / "run.yml"))
    with pytest.raises(InputError, match="command line: SEED: there is no value; its default is -1"):
        load_cfg("", ["SEED", "None"])


def test_a_whole_number_is_taken_where_a_key_holds_a_fraction(tmp_path):
    (tmp_path / "run.yml").write_text("MODEL: {OCCLUSION: {PROB: 1}}")
    cfg = load_cfg(str(tmp_path / "run.yml"), ["MODEL.IGOAS.MASK_LOSS.SCALE", "0"])
    assert (cfg.MODEL.OCCLUSION.PROB, cfg.MODEL.IGOAS.MASK_LOSS.SCALE) == (1.0, 0.0)
    assert {type(cfg.MODEL.OCCLUSION.PROB), type(cfg.MODEL.IGOAS.MASK_LOSS.SCALE)} == {float}


@pytest.mark.parametrize("text", ["", "- 1", "word"])
def test_a_file_without_keys_is_refused(tmp_path, text):
    (tmp_path / "run.yml").write_text(text)
    with pytest.raises(InputError, match="run.yml does not hold KEY: VALUE lines"):
        load_cfg(str(tmp_path / "run.yml"))


def test_a_key_that_holds_other_keys_takes_no_value():
    with pytest.raises(InputError, match="MODEL.IGOAS is a section and takes no value itself"):
        load_cfg("", ["MODEL.IGOAS", "3"])


def test_a_teacher_s_config_may_hold_the_plugin_s_keys(baseline_cfg, tmp_path, raw_host):
    assert raw_host["teacher_with_a_key_of_the_plugin"].startswith("KeyError")
    from fastreid.modeling import build_model
    from fastreid.utils.checkpoint import Checkpointer

    baseline_cfg.MODEL.HEADS.NUM_CLASSES = 4
    (tmp_path / "teacher.yml").write_text(baseline_cfg.dump())
    teacher = build_model(baseline_cfg)
    Checkpointer(teacher, str(tmp_path)).save("teacher")
    baseline_cfg.MODEL.META_ARCHITECTURE = "Distiller"
    baseline_cfg.KD.MODEL_CONFIG, baseline_cfg.KD.MODEL_WEIGHTS = (
        [str(tmp_path / "teacher.yml")], [str(tmp_path / "teacher.pth")],
    )  # fmt: skip
    student = build_model(baseline_cfg)
    own = student.model_ts[0].state_dict()
    assert all((own[name] == value).all() for name, value in teacher.state_dict().items())


def test_a_key_with_dots_in_a_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "run.yml"
    path.write_text("MODEL.DEVICE: cpu")
    with pytest.raises(InputError, match="run.yml: MODEL.DEVICE is one word: nest its parts, one section in another"):
        load_cfg(str(path))


def test_a_whole_number_beyond_any_float_is_refused_in_one_line(tmp_path):
    (tmp_path / "run.yml").write_text(f"SOLVER: {{BASE_LR: {10**400}}}")
    with pytest.raises(InputError, match="run.yml: SOLVER.BASE_LR: int too large"):
        load_cfg(str(tmp_path / "run.yml"))
    with pytest.raises(InputError, match="command line: SOLVER.BASE_LR: int too large"):
        load_cfg("", ["SOLVER.BASE_LR", str(10**400)])


def rows_of_config_py() -> list[str]:
    """Returns a row of a Markdown table for each key in config.py: key, default, and the comment above it."""
    rows, comment = [], []
    root = Path(__file__).parents[1]
    for line in (root / "igoas_plugin" / "config.py").read_text().splitlines():
        if match := re.match(r"    # (?!----)(.*)", line):
            comment.append(match[1])
        elif (match := re.match(r"    C\.([\w.]+) = (.*)", line)) and match[2] != "CfgNode()":
            rows.append(f"| `{match[1]}` | `{match[2]}` | {' '.join(comment)} |")
            comment = []
    return rows


def test_the_documentation_has_a_row_for_each_key_with_its_default_and_comment():
    rows = rows_of_config_py()
    assert sorted(re.match(r"\| `([\w.]+)`", row)[1] for row in rows) == sorted(DEFAULTS)
    page = (Path(__file__).parents[1] / "docs" / "configs.md").read_text().splitlines()
    assert [row for row in rows if row not in page] == [], "copy these rows into docs/configs.md"


@pytest.mark.parametrize("source", ["file", "options"])
def test_data_sets_get_their_registered_names(tmp_path, source):
    names = {"NAMES": "('market-1501', 'toyoccluded')", "TESTS": "('Occluded_DUKE', 'unknown')"}
    file = tmp_path / "some.yml"
    file.write_text("DATASETS:\n" + "".join(f"  {key}: {value}\n" for key, value in names.items()))
    opts = [word for key, value in names.items() for word in (f"DATASETS.{key}", value)]
    cfg = load_cfg(str(file)) if source == "file" else load_cfg("", opts)
    assert cfg.DATASETS.NAMES == ("Market1501", "ToyOccluded")
    assert cfg.DATASETS.TESTS == ("OccludedDuke", "unknown")
    assert load_cfg("", ["TEST.PRECISE_BN.DATASET", "market_1501"]).TEST.PRECISE_BN.DATASET == "Market1501"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["configs/x.yml"], "configs/x.yml needs --config-file before it: --config-file configs/x.yml"),
        (["configs/x.yml", "SEED", "1"], "configs/x.yml needs --config-file before it: --config-file configs/x.yml"),
        (["logs/model.pth"], "logs/model.pth is no key: --resume takes no path .* is MODEL.WEIGHTS logs/model.pth"),
        (["SEED", "SOLVER.BASE_LR", "0.1"], "SEED has no value: write SEED VALUE"),
        (["SEED", "1", "SOLVER.BASE_LR"], "SOLVER.BASE_LR has no value: write SOLVER.BASE_LR VALUE"),
        (["SEED=1"], "SEED=1 has an equals sign: write SEED 1$"),
        (["SEED", "1", "--resume"], "--resume stands where a key is expected: put options before KEY VALUE pairs"),
    ],
)
def test_words_that_are_no_pairs_are_named_with_the_likely_mistake(words, message):
    with pytest.raises(InputError, match=f"^command line: {message}"):
        load_cfg("", words)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("SOLVER.BASE_LR", "abc", "a number, got 'abc'"),
        ("SEED", "1.5", "a whole number, got 1.5"),
        ("CUDNN_BENCHMARK", "maybe", "True or False, got 'maybe'"),
        ("OUTPUT_DIR", "5", r"text \(a number as text has quotes inside: \"'5'\"\), got 5"),
        ("DATASETS.TESTS", "OccludedDuke", r"a list such as \('Market1501',\), got 'OccludedDuke'"),
    ],
)
def test_a_value_of_another_kind_is_told_in_words(tmp_path, key, value, kind):
    with pytest.raises(InputError, match=f"^command line: {key}: it must be {kind}$"):
        load_cfg("", [key, value])
    file = tmp_path / "own.yml"
    file.write_text(
        "".join(f"{'  ' * i}{part}:" + "\n" for i, part in enumerate(key.split("."))).rstrip() + f" {value}"
    )
    with pytest.raises(InputError, match=f"own.yml: {key}: it must be"):
        load_cfg(str(file))


def test_a_long_list_of_choices_is_told_by_its_nearest_three():
    with pytest.raises(InputError) as caught:
        require_choice("K", "occludedduke", ["A", "B", "C", "D", "E", "Duke", "OccludedDuke"], registered=True)
    assert re.fullmatch(
        r"K must be a known name \(the nearest: OccludedDuke, Duke, \w\), got occludedduke; a module in IMPORTS .*",
        str(caught.value),
    )
    with pytest.raises(InputError, match="^K must be A or B, got C$"):
        require_choice("K", "C", ["A", "B"])
