"""The leaderboard and the HTML report: plain data in, a rich table or one self-contained page out."""
