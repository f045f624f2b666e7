"""TokenStats through HTTP servers that say what they think of a prompt."""
