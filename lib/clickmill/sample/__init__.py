"""features → sample: every click, and a keyed share of the non-clicks."""
