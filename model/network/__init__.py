"""The network: biases, attention, one layer, the heads, and the HSTU made of them."""
