"""The command `midistill`: one module a verb."""
