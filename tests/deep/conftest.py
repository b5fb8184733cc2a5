"""Real processes that train real rows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is not installed (make deep)")
sys.path.insert(0, str(Path(__file__).parent))
