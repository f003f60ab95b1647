"""Fronts of finished searches: front.json, picking a point, and the report."""
