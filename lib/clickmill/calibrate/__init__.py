"""features of validation time → calibrators."""
