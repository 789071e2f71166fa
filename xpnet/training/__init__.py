"""Training: the step, the loop around it, and what a training leaves on the disk."""
