"""The companion trainer: students with the paper's interventions, which ``--model hf`` loads as they are."""
