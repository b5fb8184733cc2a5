"""The champion: who takes its place, and why."""
