"""The pytest plugin costs sessions of other projects nothing. What it does is in tests/guest/test_pytest_plugin.py."""

import subprocess
import sys


def test_a_session_that_meets_no_go_file_imports_the_plugin_alone():
    look = (
        "import sys, harness.pytest_plugin; print(*sorted(name for name in sys.modules if name.startswith('harness')))"
    )
    process = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["harness", "harness.pytest_plugin"]
