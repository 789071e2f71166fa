"""Files of tensors that are written whole or not at all, and read as from strangers; they know no network."""
