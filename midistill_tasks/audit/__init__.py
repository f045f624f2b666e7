"""The audit: reads what the harness wrote about models and says which of them leaks less, and how sure that is."""
