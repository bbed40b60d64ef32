"""What README.md and the pages in docs say is there and runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_data import make_tiny_duke

from igoas_plugin.check import build_scratch_model
from igoas_plugin.config import flat_keys, get_cfg, load_cfg, value_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = "".join(page.read_text() for page in sorted((ROOT / "docs").glob("*.md")))
PAGES = README + DOCS
LINKS = [
    (folder, link)
    for folder, page in ((".", README), ("docs", DOCS))
    for link in sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", page)))
]
FILES = sorted(set(re.findall(r"(?:tools|configs)/[\w./-]+\.(?:py|yml)", PAGES)))
TARGETS = sorted(set(re.findall(r"make ([a-z-]+)", README)))
KEYS = sorted(set(re.findall(r"\b(?:MODEL|INPUT|SOLVER|DATALOADER|DATASETS|TENSORBOARD|TEST)(?:\.[A-Z_0-9]+)+", PAGES)))


def test_they_have_links_commands_and_no_place_left_open():
    assert len(LINKS) > 15 and len(FILES) > 3 and len(TARGETS) > 2 and len(KEYS) > 10
    assert not re.search(r"@[A-Z_]+@", PAGES)


@pytest.mark.parametrize("folder, link", LINKS)
def test_every_link_leads_to_a_file(folder, link):
    assert (ROOT / folder / link).exists()


@pytest.mark.parametrize("path", FILES)
def test_every_path_in_a_command_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_in_the_makefile(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_exists(key):
    assert any(known == key or known.startswith(f"{key}.") for known in flat_keys(get_cfg()))


def test_the_paper_s_side_of_each_difference_is_what_the_paper_s_config_sets():
    rows = re.findall(r"^\| [1-7] \|.*\| (`.*) \|$", README, re.M)
    pairs = [pair.split(" ", 1) for row in rows for pair in re.findall(r"`([^`]+)`", row)]
    told = get_cfg()
    for key, value in pairs:
        told.merge_from_list([key, value.strip('"')])
    paper = load_cfg(str(ROOT / "configs/OccDuke/igoas_R50_paper.yml"))
    assert len(rows) == 7 and len(pairs) == 9
    for key, _ in pairs:
        assert value_of(told, key) == value_of(paper, key), key


def test_the_python_examples_run_one_by_one_in_a_fresh_interpreter(tmp_path):
    make_tiny_duke(tmp_path)
    (tmp_path / "Occluded_Duke").rename(tmp_path / "MyData")
    weights, (one, other) = tmp_path / "model.pth", sorted((tmp_path / "MyData" / "query").iterdir())[:2]
    torch.save(
        {"model": build_scratch_model(load_cfg(str(ROOT / "configs/Toy/igoas_R18.yml")), 4).state_dict()}, weights
    )
    files = {"logs/make_train/igoas_R18/model_final.pth": weights, '"a.jpg"': f'"{one}"', '"b.jpg"': f'"{other}"'}
    seen = {"MyData": f"data = MyData({str(tmp_path)!r}); print(len(data.train), len(data.query), len(data.gallery))",
            "MyBackbone": ("import torch; from igoas_plugin.modeling.stages import split_backbone; "
                           "print(*split_backbone(build_my_backbone(None), (64, 32))[2:4])"),
            "Predictor": "print(*descriptors.shape)"}  # fmt: skip
    printed = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        name = next(name for name in seen if name in block)
        for theirs, ours in files.items():
            block = block.replace(theirs, str(ours))
        done = subprocess.run([sys.executable, "-c", block + seen[name]], capture_output=True, text=True, cwd=ROOT)
        printed[name] = done.stdout.splitlines()[-1] if done.stdout else done.stderr
    assert printed == {"MyData": "16 16 16", "MyBackbone": "64 256", "Predictor": "2 1024"}
