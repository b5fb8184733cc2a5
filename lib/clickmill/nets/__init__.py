"""Networks for clicks: embeddings of hashed values and numbers below, a wide, a deep or a cross part above.

    layout = layout_of(spec, dataset, bits)                 # what lies where: no torch
    net = net_of(spec, layout, standard, intercept)         # torch
    margins = net(whole, real)                              # logit of p_sampled

Only `layout` and `standard` can be imported without torch.
"""
