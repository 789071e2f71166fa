"""How a step runs on a GPU: cuBLAS's products, kernels of its own, and CUDA graphs."""
