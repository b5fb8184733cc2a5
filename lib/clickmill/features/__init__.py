"""click_log → features: hashed slots, number buckets, crosses; and the audit of their collisions."""
