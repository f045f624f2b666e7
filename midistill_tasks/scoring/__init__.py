"""From views of texts to `TokenStats`, through the harness's own model: one module a backend."""
