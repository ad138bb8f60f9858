"""What people see of an object or of long work: a few lines of text, and progress."""
