"""What was known of every value before any time: from the table `encodings` to files that workers look up."""
