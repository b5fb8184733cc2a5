"""Trained models as files, and what scores with them: no Spark."""
