"""Hashed logistic regression on the ranks of one barrier stage.

Objective, over rows i with label y, weight v and the set of active features a row has, S:

    F(θ) = Σ v_i · log(1 + exp(−(2y_i − 1) m_i)) / Σ v_i + (l2/2)‖θ‖² + l1‖θ‖₁,   m_i = θ₀ + Σ_{j ∈ S_i} θ_j

θ₀, the intercept, is not penalised. A feature that stands twice in a row (two slots that collide)
adds its weight twice. Shapes: n rows, m hash columns, d active features; θ is (d + 1,) float64.
"""
