"""What a distillation costs, before it begins."""
