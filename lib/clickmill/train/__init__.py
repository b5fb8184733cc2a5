"""Training of models over many tasks: what all kinds of models share."""
