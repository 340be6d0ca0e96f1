"""The safety net itself: what the fixtures of `conftest.py` promise to every other test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from checkout import CHECKOUT

INNER = """
import logging, os
import pytest

def test_error_in_the_log():
    logging.getLogger("clipcache").error("nobody looked")

def test_warning_in_the_log():
    logging.getLogger("clipcache").warning("fine")

@pytest.mark.allow_error_logs
def test_expected_error_in_the_log():
    logging.getLogger("clipcache").error("expected")

def test_settings_of_the_caller_are_gone(user_cache):
    assert "CLIPCACHE_MODEL" not in os.environ
    assert os.environ["XDG_CACHE_HOME"] == str(user_cache)
    assert os.environ["CLIPCACHE_MEMO"] == str(user_cache / "digests.sqlite3")
    assert list(user_cache.iterdir()) == []

def test_real_data(test_data):
    assert False, "there are none"
"""


def test_fixtures_keep_their_promises(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_inner.py").write_text(INNER)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = os.environ | {"CLIPCACHE_MODEL": "RN50", "CLIPCACHE_TEST_DATA": str(tmp_path / "absent")}
    command = [sys.executable, "-m", "pytest", "-rA", "--strict-markers", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "logged as ERROR: clipcache: nobody looked" in done.stdout
    # The test that logged an error passes by itself; its teardown is what fails.
    assert "4 passed, 1 skipped, 1 error" in done.stdout
    assert "no real test data at" in done.stdout
