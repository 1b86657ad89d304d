"""What the suite costs, as ratios that are measured in one run; see README.md."""
