"""A folder to work in, with a codes file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def there(tmp_path: Path, sample_codes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, with a codes file of the sample."""
    shutil.copy(sample_codes, tmp_path / "codes.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path
