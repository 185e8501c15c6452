"""Data of older Loupes; README.md says what is in it."""
