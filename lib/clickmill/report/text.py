"""Figures and log values as text: sensible digits, and nothing that steers a terminal."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping

from clickmill.report.data import Figure, ReportData

ABSENT = "–"
DECIMALS = {
    "ne": 4,
    "log_loss": 5,
    "calibration_ratio": 3,
    "calibration_to_truth": 3,
    "ece": 5,
    "ece_debiased": 5,
    "brier": 5,
    "auc": 4,
}


def plain(value: str, limit: int = 200) -> str:
    """A value from a log or config, safe on a line: tabs as blanks, other control and format characters as U+FFFD,
    at most `limit` characters.
    """
    value = value[: limit + 1].replace("\t", " ")
    shown = "".join("\ufffd" if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def labels(data: ReportData) -> dict[str, str]:
    """model_id → what the model is called: see `labels_of`."""
    return labels_of({model.model_id: model.name for model in data.models})


def labels_of(named: Mapping[str, str]) -> dict[str, str]:
    """model_id → its name (`named`), or its id where two have one name."""
    names = list(named.values())
    return {model_id: plain(name if names.count(name) == 1 else model_id) for model_id, name in named.items()}


def metric(name: str, figure: Figure) -> str:
    """A metric with its digits, or a dash."""
    if figure.value is None or not math.isfinite(figure.value):
        return ABSENT
    return f"{figure.value:.{DECIMALS[name]}f}"


def interval(name: str, figure: Figure) -> str:
    """The 95% interval of a metric, `[0.8012, 0.8050]`; nothing where there is none."""
    if figure.low is None or figure.high is None:
        return ""
    digits = DECIMALS[name]
    return f"[{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def with_interval(name: str, figure: Figure) -> str:
    """A metric, and its interval on a second line."""
    return f"{metric(name, figure)}\n{interval(name, figure)}".rstrip()


def signed(value: float | None) -> str:
    """A difference in NE with its sign: −0.0028."""
    return ABSENT if value is None else f"{value:+.4f}".replace("-", "−")


def count(value: float | None) -> str:
    """A whole number with thousands separated: 1,234,567."""
    return ABSENT if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share in [0, 1] as per cent with two significant digits or two decimals: 3.12 %, 0.034 %."""
    if value is None:
        return ABSENT
    percent = 100 * value
    if percent == 0 or percent >= 0.1:
        return f"{percent:.2f} %"
    digits = 1 - math.floor(math.log10(percent))
    return f"{percent:.{digits}f} %" if digits <= 6 else "< 0.00001 %"


def seconds(value: float | None) -> str:
    """Seconds with one decimal below 100."""
    if value is None:
        return ABSENT
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"
