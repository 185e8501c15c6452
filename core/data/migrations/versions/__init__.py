"""The steps, in the order of their names; what a step is, core.data.migrations says."""
