"""Everything Loupe means: data, training, evaluation, explanation, prediction, review; it knows no page."""
