"""What README.md says is there and runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_data import make_tiny_duke

from igoas_plugin.config import flat_keys, get_cfg

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)


def test_it_has_links_commands_and_no_place_left_open():
    assert len(LINKS) > 15 and not re.search(r"@[A-Z_]+@", README)


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_every_link_leads_to_a_file(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:tools|configs)/[\w./-]+\.(?:py|yml)", README))))
def test_every_path_in_a_command_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", README))))
def test_every_target_is_in_the_makefile(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("key", sorted(set(re.findall(r"`(MODEL(?:\.[A-Z_]+)+)", README))))
def test_every_key_exists(key):
    assert any(known == key or known.startswith(f"{key}.") for known in flat_keys(get_cfg()))


def test_the_python_examples_run_one_by_one_in_a_fresh_interpreter(tmp_path):
    make_tiny_duke(tmp_path)
    (tmp_path / "Occluded_Duke").rename(tmp_path / "MyData")
    seen = {"MyData": f"data = MyData({str(tmp_path)!r}); print(len(data.train), len(data.query), len(data.gallery))",
            "descriptors": "print(*descriptors.shape)"}  # fmt: skip
    printed = []
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        script = block + next(line for name, line in seen.items() if name in block)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
        printed.append(done.stdout.split() or done.stderr)
    assert printed == [["16", "16", "16"], ["2", "1024"]]
