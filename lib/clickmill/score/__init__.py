"""p for new rows of the raw log's form, without Spark (`local`) and in Spark (`driver`): the same figures."""
