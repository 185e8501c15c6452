"""What runs on the nodes of a Ray cluster with Ray's help; imported by no other module, for the app has no Ray."""
