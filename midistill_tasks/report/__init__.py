"""The page, its Markdown and its CSV."""
