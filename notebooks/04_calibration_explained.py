# Databricks notebook source
# MAGIC %md
# MAGIC # Downsampling and recalibration, against the truth
# MAGIC
# MAGIC Clicks are rare, so teams train on every click and a share w of the non-clicks. What a model learns then are the
# MAGIC probabilities of the *sample*; used as they are, every bid is wrong by up to 1/w. This notebook shows how far off, how
# MAGIC the correction puts it right, and what the often misprinted formula does. Numbers only: no Spark.

# COMMAND ----------

import matplotlib.pyplot as plt
import numpy as np

from clickmill import metrics, sampling
from clickmill.calibration import expit, prior_correction

rng = np.random.default_rng(1)
n = 400_000
logit = rng.normal(-4, 1, n)
p_true = expit(logit)
label = (rng.random(n) < p_true).astype(np.int8)
event_id = [f"e{number}" for number in range(n)]
print(f"click-through rate {label.mean():.3%}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## The sample
# MAGIC
# MAGIC `keep` draws by a hash of the event's id: the same rows on every rerun and any cluster.

# COMMAND ----------

w = 0.05
kept = sampling.keep(event_id, label, w, 42)
print(f"{kept.sum():,} of {n:,} rows kept, click-through rate {label[kept].mean():.1%} among them")

# COMMAND ----------

# MAGIC %md
# MAGIC ## What a right model of the sample says
# MAGIC
# MAGIC A row of click probability p is kept with probability p + (1 − p)w, and is a click among those kept with
# MAGIC
# MAGIC p_sampled = p / (p + (1 − p) w).
# MAGIC
# MAGIC Solved for p (Elkan 2001; He et al. 2014): p = p_sampled / (p_sampled + (1 − p_sampled) / w). It is often printed with
# MAGIC (1 − p_sampled) · s; that is right only where s means 1/w.

# COMMAND ----------

p_sampled = p_true / (p_true + (1 - p_true) * w)
corrected = prior_correction(p_sampled, w)
misprinted = p_sampled / (p_sampled + (1 - p_sampled) * w)

ratios = {
    "as trained": metrics.calibration_ratio(label, p_sampled),
    "corrected": metrics.calibration_ratio(label, corrected),
    "misprinted": metrics.calibration_ratio(label, misprinted),
}
for name, ratio in ratios.items():
    print(f"{name}: calibration ratio {ratio:.3f}")

# COMMAND ----------

bins = np.quantile(p_true, np.linspace(0, 1, 21))
place = np.clip(np.searchsorted(bins, p_true, side="right") - 1, 0, 19)
seen = np.bincount(place, label, 20) / np.bincount(place, minlength=20)

figure, axes = plt.subplots(figsize=(5.5, 5))
for name, p in (("as trained", p_sampled), ("corrected", corrected), ("misprinted", misprinted)):
    axes.loglog(np.bincount(place, p, 20) / np.bincount(place, minlength=20), seen, "o-", label=name, markersize=4)
axes.loglog([1e-3, 1], [1e-3, 1], "--", color="grey")
axes.set_xlabel("what is said")
axes.set_ylabel("click-through rate seen")
axes.legend()

# COMMAND ----------

# MAGIC %md
# MAGIC ## The order of rows is untouched
# MAGIC
# MAGIC The correction rises with p_sampled, so AUC sees none of this. It is log-loss, and so NE, that tells.

# COMMAND ----------

scores = {
    name: (metrics.roc_auc(label, p), metrics.normalized_entropy(label, p))
    for name, p in (("as trained", p_sampled), ("corrected", corrected), ("misprinted", misprinted))
}
for name, (auc, ne) in scores.items():
    print(f"{name}: AUC {auc:.4f}, NE {ne:.3f}")

# COMMAND ----------

# MAGIC %md
# MAGIC ## What the sample costs
# MAGIC
# MAGIC Fewer rows, less certainty: how well the click-through rate itself is known from the sample at each keep rate.

# COMMAND ----------

rates = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
errors = []
for rate in rates:
    rows = sampling.keep(event_id, label, rate, 42)
    weights = sampling.weights(label[rows], rate)
    errors.append(abs((weights @ label[rows]) / weights.sum() / label.mean() - 1))

figure, axes = plt.subplots(figsize=(5.5, 3))
axes.loglog(rates, np.maximum(errors, 1e-6), "o-")
axes.set_xlabel("keep rate w")
axes.set_ylabel("relative error of the rate")
