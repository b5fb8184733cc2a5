# Databricks notebook source
# MAGIC %md
# MAGIC # From nothing to a judged click model
# MAGIC
# MAGIC This notebook writes a click log whose true click probabilities are known, runs clickmill's whole chain on it, and
# MAGIC looks at the result: which model is best, by how much, and whether its probabilities can be trusted.
# MAGIC
# MAGIC Set `CLICKMILL_WAREHOUSE` to a folder (on Databricks one in a volume, such as `/Volumes/main/default/clickmill`) to
# MAGIC keep the tables somewhere else, `CLICKMILL_ROWS` to have more or fewer impressions a day.

# COMMAND ----------

import os

import matplotlib.pyplot as plt
import pandas as pd

from clickmill import notebook

WAREHOUSE = os.environ.get("CLICKMILL_WAREHOUSE", "warehouse") + "/quickstart"
ROWS = os.environ.get("CLICKMILL_ROWS", "20000")
DS = "2026-01-10"

# COMMAND ----------

# MAGIC %md
# MAGIC ## One call
# MAGIC
# MAGIC `pipeline` makes the ten days that end with `DS` (log, features, a sample of every click and 5% of the rest), trains
# MAGIC two logistic regressions on the first eight, recalibrates them on the ninth, and judges them on the tenth.

# COMMAND ----------

verdict = notebook.run(
    "pipeline",
    conf=["datasets/simulated.yaml"],
    sets=[f"warehouse={WAREHOUSE}", f"simulate.rows_per_day={ROWS}"],
    ds=DS,
    models=["lr", "lr_nocross"],
)
board = notebook.leaderboard(verdict)
board.round(4)

# COMMAND ----------

# MAGIC %md
# MAGIC **NE** is log-loss divided by that of always saying the day's own click-through rate: below 1 a model knows something,
# MAGIC and the lower the better. `low` and `high` are its 95% interval. The **calibration ratio** is clicks expected ÷ clicks
# MAGIC seen: before recalibration it is far above 1, since the model saw only 5% of the non-clicks; after it, 1 is right.
# MAGIC
# MAGIC ## Can its probabilities be trusted?
# MAGIC
# MAGIC Rows of the last day in bins of equal size by what the model said, against the click-through rate seen in each.

# COMMAND ----------

tables = notebook.tables(WAREHOUSE)
best = board.index[0]
model_id = next(model["model_id"] for model in verdict["models"] if model["name"] == best)
stored = pd.DataFrame(tables.rows("reliability", where={"model_id": [model_id]}))
bins = stored[stored["stage"] == "calibrated"].sort_values("p_mean")


figure, axes = plt.subplots(figsize=(5, 5))
axes.plot(bins["p_mean"], bins["ctr"], "o-", label=best)
axes.plot([0, bins["p_mean"].max()], [0, bins["p_mean"].max()], "--", color="grey", label="right")
axes.set_xlabel("p, mean of the bin")
axes.set_ylabel("click-through rate of the bin")
axes.set_title(f"{best} on {DS}")
axes.legend()

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the gate said
# MAGIC
# MAGIC A model becomes the champion only for written reasons.

# COMMAND ----------

for row in tables.rows("decisions"):
    print(row["challenger"], "is the champion now" if row["promoted"] else "was refused")
print("report:", verdict["report"])
