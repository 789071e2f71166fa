"""Trainings that several processes share."""

from xpnet.parallel.mpi import MPI

__all__ = ["MPI"]
