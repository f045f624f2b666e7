"""Doors to what was here before: `results.roles`, `report.build`, `compare.meter`."""
