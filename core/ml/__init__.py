"""The only torch: networks, training, inference and attribution, always in a process of their own."""
