"""Alignment of the world model: GRPO and other policy optimisers, and online distillation of the student."""
