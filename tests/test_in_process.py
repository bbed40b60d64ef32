"""A tool in the process of the tests: the same exit code and output as in a process of its own, and nothing is left."""

import logging
import os
import random
import signal
import subprocess
import sys
import warnings

import numpy as np
import torch
from in_process import run_in_process

# of a name each: what a file of Python does
ENDS = {
    "the end": "",
    "code": "sys.exit(3)",
    "text": "sys.exit('no such file')",
    "nothing": "sys.exit()",
    "log": "logging.basicConfig(format='%(message)s'); logging.getLogger('fastreid').warning('told')",
    "quiet log": "logging.getLogger('fastreid').info('told'); logging.getLogger('fastreid.x').error('told')",
    "warning": "warnings.warn('told once'); warnings.warn('told', ImportWarning)",
    "bytes": "sys.stdout.buffer.write(b'bytes'); os.write(2, b'C'); sys.stderr.write('\\udcff')",
    "child": "subprocess.run(['echo', 'from a child'])",
    "words": "print(sys.argv[1:], __name__, sys.stdout.isatty())",
}
LEAVES = """
import logging, os, random, signal, sys, warnings
import numpy, torch
os.environ["LEFT"] = "yes"
os.environ.pop("HOME", None)
os.chdir("/")
logging.basicConfig(level=logging.DEBUG)
logging.getLogger("fastreid").addHandler(logging.StreamHandler())
logging.getLogger("fastreid").setLevel(logging.ERROR)
logging.getLogger("fastreid").propagate = False
warnings.simplefilter("error")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
random.seed(5), numpy.random.seed(5), torch.manual_seed(5)
torch.set_num_threads(3)
torch.use_deterministic_algorithms(True)
torch.backends.cudnn.benchmark = True
sys.path.insert(0, "/")
sys.argv.append("left")
raise ValueError("at the end")
"""


def test_exit_code_and_output_are_those_of_a_process(tmp_path):
    different = {}
    for name, text in ENDS.items():
        path = tmp_path / f"{name.replace(' ', '_')}.py"
        path.write_text(f"import logging, os, subprocess, sys, warnings\nprint('begun', flush=True)\n{text}\n")
        command = [str(path), "a word"]
        here = run_in_process(command)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
        if (here.returncode, here.stdout, here.stderr) != (done.returncode, done.stdout, done.stderr):
            different[name] = (here, done)
    assert different == {}


def state() -> dict:
    host = logging.getLogger("fastreid")
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "root": (list(logging.root.handlers), logging.root.level),
        "host": (list(host.handlers), host.level, host.propagate),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "signal": signal.getsignal(signal.SIGTERM),
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "streams": (sys.stdout, sys.stderr),
        "words": (sys.argv, list(sys.argv), list(sys.path)),
        "main": sys.modules["__main__"],
    }


def test_what_a_tool_leaves_in_the_process_is_undone(tmp_path):
    (tmp_path / "leaves.py").write_text(LEAVES)
    before = state()
    done = run_in_process([str(tmp_path / "leaves.py")])
    after = state()
    assert done.returncode == 1 and done.stderr.endswith("ValueError: at the end\n")
    assert [name for name in before if before[name] != after[name]] == []
