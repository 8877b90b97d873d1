"""Models of p(x) up to a constant."""
