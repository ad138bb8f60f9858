"""What a network does, found out without waiting for it: analyses of its steps."""
