"""features of test time → predictions, metrics and reliability: the judge."""
