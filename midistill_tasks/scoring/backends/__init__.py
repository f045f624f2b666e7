"""One module a backend of the harness."""
