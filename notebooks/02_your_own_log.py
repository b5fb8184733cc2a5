# Databricks notebook source
# MAGIC %md
# MAGIC # Your own log
# MAGIC
# MAGIC A log is a file (CSV, TSV, JSON lines, Parquet) or a Delta table with one impression a row: when, what was shown,
# MAGIC clicked or not. This notebook writes a small one, so that it runs as it is. Replace the next cell by your own.

# COMMAND ----------

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from clickmill import notebook
from clickmill.models import artifact

HERE = Path(os.environ.get("CLICKMILL_WAREHOUSE", "warehouse"), "your_own_log").absolute()
ROWS = int(os.environ.get("CLICKMILL_ROWS", "20000")) // 10
HERE.mkdir(parents=True, exist_ok=True)

# COMMAND ----------

rng = np.random.default_rng(1)
days = 9
n = days * ROWS
seconds = np.sort(rng.integers(0, days * 86_400, n))
log = pd.DataFrame(
    {
        "time": (pd.Timestamp("2026-03-01") + pd.to_timedelta(seconds, unit="s")).strftime("%Y-%m-%d %H:%M:%S"),
        "ad": [f"ad{number}" for number in rng.integers(0, 40, n)],
        "site": [f"site{number}" for number in rng.integers(0, 15, n)],
        "price": rng.lognormal(1, 1, n).round(2),
    }
)
logit = -2 + np.sin(log["ad"].str[2:].astype(int)) + np.sin(3 * log["site"].str[4:].astype(int))
log["click"] = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
log.to_csv(HERE / "log.tsv", sep="\t", index=False)
log.head()

# COMMAND ----------

# MAGIC %md
# MAGIC ## Say what its columns are
# MAGIC
# MAGIC The config of a data set. An unknown key or a wrong value is an error that names file, key and what is allowed.

# COMMAND ----------

config = f"""
dataset:
  name: mine
  source: {{format: tsv, path: "{HERE}/log.tsv", header: true}}
  label: click
  event_time: {{kind: column, column: time, format: "%Y-%m-%d %H:%M:%S"}}
  slots: [ad, site]
  numbers: [price]
  crosses: [[ad, site]]
warehouse: "{HERE}/tables"
sampling: {{keep_rate: 0.3}}
models:
  lr: {{kind: logreg, bits: 18, l2: 0.001}}
"""
(HERE / "mine.yaml").write_text(config)

# COMMAND ----------

verdict = notebook.run("pipeline", conf=[str(HERE / "mine.yaml")], ds="2026-03-09")
notebook.leaderboard(verdict).round(4)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What did not fit
# MAGIC
# MAGIC Lines that are wrong are in the table `rejects`, with file, line number and reason; above 1% nothing is written.

# COMMAND ----------

tables = notebook.tables(f"{HERE}/tables")
rejects = tables.rows_if_any("rejects")
print(len(rejects), "lines refused")

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the model learned
# MAGIC
# MAGIC Its artifact is plain arrays and a card, `model.json`: no pickle.

# COMMAND ----------

(row,) = tables.rows("models")
model = artifact.load(row["artifact"])
print(model.card.model_id, "trained at keep rate", model.card.keep_rate, "on", model.card.stretches["train"])

figure, axes = plt.subplots(figsize=(6, 3))
axes.hist(model.weight, bins=40)
axes.set_xlabel("weight")
axes.set_ylabel("features")
