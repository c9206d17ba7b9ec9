"""GRPO and online distillation."""
