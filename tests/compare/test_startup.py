"""`compare` starts fast because it leaves alone what takes long to import."""

import subprocess
import sys
from pathlib import Path

_SLOW = ("torch", "transformers", "scipy.stats", "scipy.optimize", "matplotlib", "jinja2")
_SCRIPT = f"""
import sys
from harness.cli.app import main
sys.argv = ["selfteach", "compare", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("slow:", [name for name in {_SLOW} if name in sys.modules])
"""


def test_comparing_two_tables_imports_nothing_slow(tmp_path: Path) -> None:
    for name, step in (("a", 2), ("b", 3)):
        rows = "".join(f"{item},{int(item % step == 0)}\n" for item in range(40))
        (tmp_path / f"{name}.csv").write_text(f"item,score\n{rows}")
    command = [sys.executable, "-c", _SCRIPT, str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("slow: []"), done.stdout
