"""Training of models on several ranks at once: the ring, and one package a kind of model."""
