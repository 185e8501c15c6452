"""What several pages need: frame, form, figures and the browser components."""
