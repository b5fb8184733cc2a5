"""How gradients change weights: of dense layers, of the rows of tables, of the wide part."""
