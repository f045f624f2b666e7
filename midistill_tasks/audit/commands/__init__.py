"""One module a verb of the audit."""
