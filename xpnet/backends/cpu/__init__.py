"""How a recorded step runs on a CPU: NumPy's calls one after another, or one call of machine code."""
