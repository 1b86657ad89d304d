"""What a test leaves behind in its own process: seen by snapshots before and after, told once."""
