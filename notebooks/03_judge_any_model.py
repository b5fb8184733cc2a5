# Databricks notebook source
# MAGIC %md
# MAGIC # Judge any model
# MAGIC
# MAGIC You have a system already? Hand in its p for the rows of test time, and the same judge says how the two compare: on the
# MAGIC same rows, with paired intervals. Nothing is written.
# MAGIC
# MAGIC Here the outside system is a made-up one: it says the true probability, blurred and 20% too high.

# COMMAND ----------

import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from clickmill import notebook
from clickmill.compare import compare
from clickmill.job import Arguments, day_of, verdict_of

WAREHOUSE = os.environ.get("CLICKMILL_WAREHOUSE", "warehouse") + "/quickstart"
ROWS = os.environ.get("CLICKMILL_ROWS", "20000")
DS = "2026-01-10"
CONF = ("datasets/simulated.yaml",)
SETS = (f"warehouse={WAREHOUSE}", f"simulate.rows_per_day={ROWS}")

# COMMAND ----------

verdict = notebook.run("pipeline", conf=CONF, sets=SETS, ds=DS, models=["lr"])
notebook.leaderboard(verdict).round(4)

# COMMAND ----------

# MAGIC %md
# MAGIC ## Predictions of the outside system
# MAGIC
# MAGIC A file (CSV or Parquet) with `event_id`, `label` and `p`, one row for each row of test time.

# COMMAND ----------

tables = notebook.tables(WAREHOUSE)
day = tables.read("features", days=[day_of(DS)]).select("event_id", "label", "c_p_true").toPandas()
rng = np.random.default_rng(1)
odds = day["c_p_true"] / (1 - day["c_p_true"]) * np.exp(rng.normal(0, 0.3, len(day)))
theirs = day[["event_id", "label"]].assign(p=np.clip(1.2 * odds / (1 + odds), 0, 1))
theirs.to_parquet(f"{WAREHOUSE}/theirs.parquet", index=False)
theirs.head()

# COMMAND ----------

job = compare(f"{WAREHOUSE}/theirs.parquet", name="theirs", models=("lr",))
compared, error = verdict_of(job, Arguments(CONF, SETS, day_of(DS), models=("lr",), dry_run=True, json=True))
assert error is None, error
notebook.leaderboard(compared).round(4)

# COMMAND ----------

# MAGIC %md
# MAGIC ## By how much?
# MAGIC
# MAGIC Both are judged on the same rows and the same resamples of them, so that the interval of the difference is far narrower
# MAGIC than the two models' own.

# COMMAND ----------

differences = pd.DataFrame(compared["differences"])
whole = differences[differences["slice"] == "all"]
whole[["model_id", "other_id", "metric", "difference", "low", "high"]]

names = [model["name"] for model in compared["models"]]
figure, axes = plt.subplots(figsize=(6, 2.5))
for place, model in enumerate(compared["models"]):
    ne = model["metrics"]["ne"]
    axes.plot([ne["low"], ne["high"]], [place, place], color="grey")
    axes.plot(ne["value"], place, "o")
axes.set_yticks(range(len(names)), names)
axes.set_xlabel("NE on test time, 95% interval")
