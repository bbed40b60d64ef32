"""What README.md and the pages in docs say is there and runs."""

import re
import subprocess
import sys
from pathlib import Path

import torch
from test_import_order import ORDER
from tiny_data import make_tiny_duke

from igoas_plugin.config import flat_keys, get_cfg, load_cfg, value_of
from igoas_plugin.fastreid_fixes import FIXES
from igoas_plugin.preflight import build_scratch_model

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
OTHERS = "fastreid_projects.md"  # has the paths and keys of fast-reid's repository
TEXT = "\n".join(text for path, text in PAGES.items() if path.name != OTHERS)
KEY = r"\b(?:MODEL|INPUT|SOLVER|DATALOADER|DATASETS|TENSORBOARD|TEST)(?:\.[A-Z_0-9]+)+"


def test_every_link_leads_to_a_file():
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[page])]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
    assert len(set(links)) > 15


def test_every_path_in_a_command_exists():
    paths = set(re.findall(r"(?:tools|configs)/[\w./-]+\.(?:py|yml)", TEXT))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == [] and len(paths) > 3


def test_every_target_is_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", TEXT, re.M | re.S))
    targets = {*re.findall(r"(?:`|^ {4,})make ([a-z-]+)", TEXT, re.M), *re.findall(r"^make ([a-z-]+)", fenced, re.M)}
    missing = [target for target in sorted(targets) if not re.search(rf"^{target}:", makefile, re.M)]
    assert missing == [] and len(targets) > 2


def test_every_key_exists():
    known = "\n".join(f"{key}." for key in flat_keys(get_cfg()))
    keys = set(re.findall(KEY, TEXT))
    unknown = [key for key in sorted(keys) if not re.search(rf"^{re.escape(key)}\.", known, re.M)]
    assert unknown == [] and len(keys) > 10


def test_the_paper_s_side_of_each_difference_is_what_the_paper_s_config_sets():
    page = (ROOT / "docs" / "configs.md").read_text()
    rows = re.findall(r"^\| [1-7] \|.*\| (`.*) \|$", page, re.M)
    pairs = [pair.split(" ", 1) for row in rows for pair in re.findall(r"`([^`]+)`", row)]
    told = get_cfg()
    for key, value in pairs:
        told.merge_from_list([key, value.strip('"')])
    paper = load_cfg(str(ROOT / "configs/OccDuke/igoas_R50_paper.yml"))
    assert len(rows) == 7 and len(pairs) == 9
    for key, _ in pairs:
        assert value_of(told, key) == value_of(paper, key), key


def test_the_example_of_the_readme_runs_in_a_fresh_interpreter(tmp_path):
    make_tiny_duke(tmp_path)
    one, other = sorted((tmp_path / "Occluded_Duke" / "query").iterdir())[:2]
    cfg, run = load_cfg(str(ROOT / "configs/Toy/igoas_R18.yml")), tmp_path / "run"
    run.mkdir()
    torch.save({"model": build_scratch_model(cfg, 4).state_dict()}, run / "model_final.pth")
    (run / "config.yaml").write_text(cfg.dump())
    [block] = re.findall(r"```python\n(.*?)```", PAGES[ROOT / "README.md"], re.S)
    files = {"logs/make_train/igoas_R18": run, "a.jpg": one, "b.jpg": other}
    for theirs, ours in files.items():
        assert theirs in block
        block = block.replace(theirs, str(ours))
    code = f"{block}\nprint(*descriptors.shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 1024"


def test_the_table_of_patches_names_every_file_with_a_fix():
    page = (ROOT / "docs" / "architecture.md").read_text()
    files = {fix.__module__.rpartition(".")[2] for fix in FIXES}
    assert sorted(name for name in files if f"`{name}`" not in page) == []


def test_the_order_of_imports_on_the_page_is_the_tested_one():
    page = " ".join((ROOT / "docs" / "architecture.md").read_text().split())
    names = [name if isinstance(name, str) else f"{' and '.join(name)} (side by side)" for name in ORDER]
    assert ", ".join(names) in page
