# Databricks' source format → jupytext's percent format: a marker before each cell.
1d
s/^# MAGIC %md$/# %% [markdown]/
s/^# MAGIC/#/
/^# COMMAND -*$/ {
    N
    N
    s/^.*\n\n# MAGIC %md$/# %% [markdown]/
    s/^.*\n\n/# %%\
/
}
