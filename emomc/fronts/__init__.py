"""Fronts after a search: the file front.json, picking a point, and the report."""
