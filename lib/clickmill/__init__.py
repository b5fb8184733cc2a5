"""clickmill: from a raw click log to a calibrated, judged and promoted click model, on Spark."""

__version__ = "0.1.0"
