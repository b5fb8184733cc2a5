"""features of a day against those of train time and of the day before → drift, and whether to train again."""
