"""Proofs of the gradients: independent references, oracles, identities, planted bugs."""
