"""Leave-one-out evaluation under the protocols that published HSTU results were made with."""
