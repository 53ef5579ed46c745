"""The compiled stack: C++ sources, and the libraries that an installation builds from them."""
