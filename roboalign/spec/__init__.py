"""Specs: YAML with positions, composition, cross-part checks, JSON Schema, plan. This package never imports torch."""
