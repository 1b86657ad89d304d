"""From what a check did to a verdict, and from verdicts to the terminal and the exit status."""
