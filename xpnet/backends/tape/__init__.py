"""What a training step is: its operations, recorded, planned and put together; nothing of how they are run."""
