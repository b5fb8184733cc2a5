"""Real processes that train real rows."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch is not installed (make deep)")
