"""Specs: YAML with positions, composition, cross-part checks, JSON Schema, plan. Never imports torch."""
