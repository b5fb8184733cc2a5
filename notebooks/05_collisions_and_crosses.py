# Databricks notebook source
# MAGIC %md
# MAGIC # Collisions and crosses
# MAGIC
# MAGIC A value is hashed to 32 bits once; each model takes as many of them as it likes. Two values that share an index share a
# MAGIC weight. How many bits are enough? And what does a cross of two columns buy?

# COMMAND ----------

import os

import matplotlib.pyplot as plt
import numpy as np

from clickmill import notebook
from clickmill.hashing import hash_cross, hash_slot, to_index

WAREHOUSE = os.environ.get("CLICKMILL_WAREHOUSE", "warehouse") + "/quickstart"
ROWS = os.environ.get("CLICKMILL_ROWS", "20000")
DS = "2026-01-10"

# COMMAND ----------

# MAGIC %md
# MAGIC ## Collisions, counted and computed
# MAGIC
# MAGIC Of n values in 2^bits places a share of 1 − (1 − 2^−bits)^(n−1) lies in a place with another one.

# COMMAND ----------

n = 100_000
hashes = hash_slot("ad", [f"ad{number}" for number in range(n)])
bits = np.arange(14, 29)
counted = []
for width in bits:
    _, place, sharers = np.unique(to_index(hashes, int(width)), return_inverse=True, return_counts=True)
    counted.append((sharers[place] > 1).mean())
computed = 1 - (1 - 2.0**-bits) ** (n - 1)

figure, axes = plt.subplots(figsize=(6, 3.5))
axes.semilogy(bits, computed, label="computed")
axes.semilogy(bits, np.maximum(counted, 1e-5), "o", label="counted")
axes.set_xlabel("bits")
axes.set_ylabel("share of values that share a place")
axes.legend()

# COMMAND ----------

# MAGIC %md
# MAGIC ## A cross is a hash of hashes
# MAGIC
# MAGIC Order matters, and no separator can confuse it; a cross with a missing part is missing.

# COMMAND ----------

ad, site = hash_slot("ad", ["a", "a", None]), hash_slot("site", ["b", "c", "b"])
crossed = hash_cross("ad×site", [("ad", ad), ("site", site)])
turned = hash_cross("site×ad", [("site", site), ("ad", ad)])
print(crossed, turned)

# COMMAND ----------

# MAGIC %md
# MAGIC ## What crosses buy
# MAGIC
# MAGIC The simulated log has six planted pairs. The same model with and without crosses, judged on the same rows.

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
# MAGIC ## What the audit of the features says
# MAGIC
# MAGIC `feature_audit` has, for each slot and day, the share of impressions whose value shares its index with another one, at
# MAGIC each number of bits.

# COMMAND ----------

audit = notebook.tables(WAREHOUSE).read("feature_audit").where(f"ds = '{DS}'").toPandas()
worst = audit[audit["bits"] == audit["bits"].min()].nlargest(5, "collision_mass")["slot"].tolist()

figure, axes = plt.subplots(figsize=(6, 3.5))
for slot in worst:
    rows = audit[audit["slot"] == slot].sort_values("bits")
    axes.semilogy(rows["bits"], rows["collision_mass"].clip(lower=1e-6), label=slot)
axes.axhline(0.01, linestyle="--", color="grey")
axes.set_xlabel("bits")
axes.set_ylabel("share of impressions")
axes.legend()
