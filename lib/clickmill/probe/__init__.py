"""What `clickmill doctor --master` finds out of a cluster, in seconds, that a job would find out after an hour."""
