"""Every number in the README, with the command that prints it."""
