"""A Criteo-shaped click log whose true click probability is known."""
