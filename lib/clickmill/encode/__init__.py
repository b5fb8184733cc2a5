"""features → encodings: how often each value was seen and clicked, by day or hour."""
