"""What the DAG files are made of: settings, tasks, what a job's end means. Nothing of clickmill is imported."""
