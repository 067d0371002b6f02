"""What runs for a problem on a machine, and why."""
