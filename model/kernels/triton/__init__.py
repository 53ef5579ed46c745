"""The stack for GPUs: Triton kernels on paged K and V, and matrix products of torch around them."""
